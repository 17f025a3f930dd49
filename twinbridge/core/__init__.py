"""What a twin is and what a rule decides: pure functions over values, given `now`."""
