"""From drivers to ticks: channels, sensors, poll groups, bus lines, and the threads round them."""
