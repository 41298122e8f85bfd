"""Join the network, then report readings for ever. The LED is on while Home Assistant knows the device."""

import json
import time

from grokmon_device import GrokmonDevice
from machine import PWM, WDT, Pin, reset
import network

# The pins of your outputs by their names in settings.json, such as {"grow_light": 25, "irrigation": 26}.
PINS = {}
WATCHDOG_MS, JOIN_S = 60_000, 60

led = Pin(2, Pin.OUT)


def drive(name: str, on: bool, percent: float | None) -> None:
    """Set the pin of an output: of lights and fans by pulse width, of switches and pumps on or off."""
    if percent is None:
        Pin(PINS[name], Pin.OUT).value(on)
    else:
        # The duty at once: without one it starts with half.
        PWM(Pin(PINS[name]), freq=1_000, duty_u16=int(percent * 65_535 / 100))


def feed() -> None:
    """Keep the board from starting anew, if what is on ends in time."""
    if outputs is None or outputs.is_guarded():
        watchdog.feed()


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
device = GrokmonDevice(settings, outputs)
print("joining the network")
wifi = network.WLAN(network.STA_IF)
wifi.active(True)
wifi.connect("YOUR NETWORK", "ITS PASSWORD")
for _ in range(JOIN_S):
    if not wifi.isconnected():
        time.sleep(1)
        feed()
if not wifi.isconnected():
    # The radio may need a new start, too.
    reset()

while True:
    # Put the values of your sensors here: only metrics that were chosen at enrolment. Leave it out if there are none.
    device.report({"temp_c": 21.5, "humidity_percent": 55.0})
    # Ten seconds, in small pieces: a watchdog may have eight at most.
    for _ in range(10):
        device.run(1)
        led(device.ready)
        feed()
