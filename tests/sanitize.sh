#!/bin/sh
# Builds the native core with the sanitizers into build/asan and runs the tests of what
# goes through it there; arguments are pytest's.  The ordinary build stays as it is.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
QVP_SANITIZE=address,undefined,float-cast-overflow,float-divide-by-zero
CC=${CC:-gcc}
export QVP_SANITIZE CC

runtime=$("$CC" -print-file-name=libasan.so)
case $runtime in /*) ;; *)
    echo "$CC brings no libasan.so: apt-get install gcc, or name GCC with CC=..."
    exit 1
    ;;
esac

# Built from a copy: neither build takes the other's objects for its own.
rm -rf build/asan
mkdir -p build/asan/source
cp -R setup.py pyproject.toml README.md LICENSE src build/asan/source
find build/asan/source -name '*.so' -delete
echo "Building the native core with $QVP_SANITIZE ..."
"$python" -m pip --disable-pip-version-check --quiet install --no-deps \
    --target build/asan/site build/asan/source

# No leaks are looked for at the end, where CPython leaves much of its own:
# test_leaks.py and test_allocation_failures.py count ours.  A report aborts, so that
# tests which expect a process to be killed by a signal still see one.
export PYTHONPATH="$PWD/build/asan/site"
export PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1

# What neither adds a native call nor a size is left out, for its time.
exec env LD_PRELOAD="$runtime" "$python" -m pytest \
    tests/native tests/reference tests/unit/test_geometry.py \
    tests/unit/test_prepare.py tests/property/test_geometry_laws.py \
    -k 'not mutated and not bombs' "$@"
