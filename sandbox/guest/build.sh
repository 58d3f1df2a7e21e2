#!/bin/sh
# Builds the guest component and packs it: sh sandbox/guest/build.sh OUT_FOLDER
#
# Needs python3 (3.10 or newer), zstd, and PyPI once for componentize-py, which brings CPython 3.14 for WASI.
# Two builds never have the same bytes: the interpreter is initialised at build time with a random hash secret,
# which moves everything. So the artifact is built once, kept in the repository, and checked by its hash. The three
# hashes that this prints belong into sandbox/src/artifact.rs, the first one into artifact/LICENSES.md too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT_FOLDER}
mkdir -p "$out"
[ -x "$out/venv/bin/componentize-py" ] || {
  python3 -m venv "$out/venv"
  "$out/venv/bin/pip" -q install componentize-py==0.25.1
}
"$out/venv/bin/componentize-py" -d "$here/wit" -w python componentize app -p "$here" -o "$out/python.wasm"
zstd -19 -q -f "$out/python.wasm" -o "$out/python.wasm.zst"
sha256sum "$out/python.wasm" "$out/python.wasm.zst"
cd "$here"
echo "sources $(find . -name '*.py' -o -name '*.wit' | LC_ALL=C sort | xargs cat | sha256sum)"
ls -l "$out/python.wasm" "$out/python.wasm.zst"
