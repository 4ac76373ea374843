"""The command line: the roof over engine, planning and reports; `app.main` is `relief`."""
