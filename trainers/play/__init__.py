"""``mmzero play``: one episode, shown while it is played, in a terminal or as a page.

:mod:`.command` reads what was typed, :mod:`.settings` makes sense of it, :mod:`.game` plays
and tells what happens as :mod:`.events`. :mod:`.terminal` prints them, :mod:`.table` keeps
them for the page that :mod:`.server` serves. A person is one more policy: what was typed
becomes the text that a model would have written (:mod:`.writing`).
"""
