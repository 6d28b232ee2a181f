"""The market's state machine: commands are decided purely into events, events are applied to the state."""
