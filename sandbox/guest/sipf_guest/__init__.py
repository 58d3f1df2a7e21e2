"""The guest side of sipf-sandbox: what runs beside untrusted Python inside one WebAssembly instance.

Every module here starts with `__builtins__ = own.BUILTINS`: functions take their builtins from that
name when they are created, so a program that replaces `builtins.len` does not break the codec that
shares its interpreter.
"""
