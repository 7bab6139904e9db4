#!/bin/sh
# Builds sdist and wheel, installs the wheel into an empty environment where no
# compiler is on PATH, and runs the tests outside the tree.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$tree" && command -v "${PYTHON:-python3}")
case $python in /*) ;; *) python=$tree/$python ;; esac
work=$(mktemp -d)
rm=$(command -v rm)
trap '"$rm" -rf "$work"' EXIT

"$python" -m build --outdir "$work/dist" "$tree"
ls -l "$work/dist"

"$python" -m venv "$work/env"
cp -R "$tree/tests" "$tree/pyproject.toml" "$work/"
mkdir -p "$work/examples" && cp "$tree"/examples/* "$work/examples/"
cp -R "$tree/docs" "$work/docs"
cd "$work"
# Only the new environment's own programs: no cc, no gcc, no make.
PATH=$work/env/bin
export PATH
if command -v cc || command -v gcc; then
    echo "a compiler is still on PATH"
    exit 1
fi
wheel=$(echo dist/*.whl)
python -m pip --disable-pip-version-check --quiet install "$wheel[test]"
python -c 'import qwenvl_prep; print("installed:", qwenvl_prep.__file__)'
QWENVL_PREP_CORPORA=${QWENVL_PREP_CORPORA:-$tree/../shared/corpora/public}
export QWENVL_PREP_CORPORA
python -m pytest
