"""Makes every connection to SQLite keep what is deleted in its free pages, as builds do that are not Debian's.

Python imports this by itself when the folder is on PYTHONPATH.
"""

import sqlite3.dbapi2

connect = sqlite3.dbapi2.connect


def connect_without_overwriting(*args, **kwargs):
    connection = connect(*args, **kwargs)
    connection.execute("pragma secure_delete = off")
    return connection


sqlite3.dbapi2.connect = connect_without_overwriting
sqlite3.connect = connect_without_overwriting
