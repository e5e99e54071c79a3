"""Pages that are one file: nothing else is fetched, and they are used with a keyboard, a phone, or no JavaScript."""
