"""Imports the standard library while the component is built: what is not imported here does not exist later."""

import importlib
import sys

_SKIP = {"antigravity", "this", "idlelib", "turtledemo", "test", "__phello__"}
_SUBMODULES = """
collections.abc concurrent.futures os.path xml.etree.ElementTree xml.dom xml.dom.minidom xml.sax json.decoder
importlib.util importlib.metadata importlib.resources unittest.mock urllib.parse urllib.request urllib.error
html.parser html.entities http.client multiprocessing.pool logging.handlers email.mime.text email.mime.multipart
email.message email.utils wsgiref.util dbm.dumb curses.ascii encodings.idna encodings.utf_7 encodings.utf_16
encodings.utf_16_le encodings.utf_16_be encodings.utf_32 encodings.latin_1 encodings.ascii encodings.cp1252
encodings.cp437 encodings.rot_13 encodings.hex_codec encodings.base64_codec encodings.unicode_escape
encodings.raw_unicode_escape encodings.punycode encodings.utf_8_sig encodings.iso8859_1 encodings.iso8859_15
""".split()


def _bring(name):
    try:
        importlib.import_module(name)
    except BaseException:  # what WASI has not; programs get ModuleNotFoundError
        pass


for _name in sorted(sys.stdlib_module_names - _SKIP):
    _bring(_name)
for _name in _SUBMODULES:
    _bring(_name)

import _pylong  # noqa: E402
import asyncio  # noqa: E402
import selectors  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402


class _NoFiles(selectors.SelectSelector):
    """`asyncio.run` needs neither sockets nor threads: waiting is the virtual clock's business."""

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("the event loop would wait for ever")
        if timeout > 0:
            time.sleep(timeout)
        return []


_loop = asyncio.selector_events.BaseSelectorEventLoop
selectors.DefaultSelector = _NoFiles
_loop._make_self_pipe = lambda self: None
_loop._close_self_pipe = lambda self: None
_loop._write_to_self = lambda self: None
warnings.simplefilter("ignore")
_pylong._decimal = None  # texts of millions of digits: a program's own cost, as it was before Python 3.12
sys.maxsize = 2**63 - 1  # programs mean "very large"; the 32-bit value would fail honest ones
