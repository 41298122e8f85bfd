"""Join the network, then report readings for ever. The LED is on while Home Assistant knows the device."""

import json
import time

from grokmon_device import GrokmonDevice
from machine import PWM, WDT, Pin
import network

# The pins of your outputs by their names in settings.json, such as {"grow_light": 25, "irrigation": 26}.
PINS = {}
WATCHDOG_MS = 60_000

led = Pin(2, Pin.OUT)


def drive(name: str, on: bool, percent: float | None) -> None:
    """Set the pin of an output: of lights and fans by pulse width, of switches and pumps on or off."""
    if percent is None:
        Pin(PINS[name], Pin.OUT).value(on)
    else:
        # The duty at once: without one it starts with half.
        PWM(Pin(PINS[name]), freq=1_000, duty_u16=int(percent * 65_535 / 100))


def identify() -> None:
    """Blink."""
    for count in range(10):
        led(count % 2)
        time.sleep_ms(100)


with open("settings.json") as file:
    settings = json.load(file)
outputs = None
if PINS:
    from grokmon_outputs import Outputs

    # First of all: this turns everything off.
    outputs = Outputs(settings["actuators"], drive, identify)

# Before anything that may fail or wait: the board starts again then, and everything is off.
watchdog = WDT(timeout=WATCHDOG_MS)
wifi = network.WLAN(network.STA_IF)
wifi.active(True)
wifi.connect("YOUR NETWORK", "ITS PASSWORD")
while not wifi.isconnected():
    time.sleep_ms(200)

device = GrokmonDevice(settings, outputs)
while True:
    # Put the values of your sensors here: only metrics that were chosen at enrolment. Leave it out if there are none.
    device.report({"temp_c": 21.5, "humidity_percent": 55.0})
    device.run(10)
    led(device.ready)
    if outputs is None or outputs.is_guarded():
        watchdog.feed()
