"""Join the network, then report readings for ever. The LED is on while Home Assistant knows the device."""

import json
import time

from grokmon_device import GrokmonDevice
from machine import Pin
import network

wifi = network.WLAN(network.STA_IF)
wifi.active(True)
wifi.connect("YOUR NETWORK", "ITS PASSWORD")
while not wifi.isconnected():
    time.sleep_ms(200)

with open("settings.json") as file:
    device = GrokmonDevice(json.load(file))
led = Pin(2, Pin.OUT)
while True:
    # Put the values of your sensors here.
    device.report({"temp_c": 21.5, "humidity_percent": 55.0})
    device.run(10)
    led(device.ready)
