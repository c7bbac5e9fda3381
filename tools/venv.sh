# The clone's own virtual environment: made when it is missing, brought up to date when the pins
# changed, reused otherwise. Sourced by tools/test and tools/demo, which stand in the clone's root.
# PYTHON chooses the interpreter to make it with.

say() { printf '\n== %s\n' "$*"; }

# Runs rather than looks: a version manager's shim exists for versions it cannot start.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python \
        /usr/local/bin/python3 /usr/bin/python3; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "Gradient needs Python 3.11 or later, and found none on PATH." >&2
    echo "Install one, or name it: PYTHON=/path/to/python3 bash $0" >&2
    return 1
}

# Prints what the environment depends on; a change of it means another installation.
describe_environment() {
    printf 'clone %s\n' "$PWD"
    cat pyproject.toml tools/constraints.txt
}

make_environment() {
    local base pip
    if [ ! -f .venv/made-from ] || ! .venv/bin/python -c '' 2>/dev/null; then
        base=$(find_python)
        say "making .venv with $base ($("$base" -V))"
        # A Python without ensurepip lends its own pip to the environment.
        if "$base" -c 'import ensurepip' 2>/dev/null; then
            "$base" -m venv --clear .venv
            pip=(.venv/bin/python -m pip)
        else
            "$base" -m venv --clear --without-pip .venv
            pip=("$base" -m pip --python .venv/bin/python)
        fi
    else
        pip=(.venv/bin/python -m pip)
    fi
    say "installing Gradient, torch and the tools into .venv (pinned by tools/constraints.txt)"
    # The variables pin what builds the package too; older and newer pips read one or the other.
    PIP_CONSTRAINT=tools/constraints.txt PIP_BUILD_CONSTRAINT=tools/constraints.txt \
        "${pip[@]}" install --quiet --quiet --disable-pip-version-check --no-input \
        --editable '.[dev]'
    describe_environment >.venv/made-from
}

if ! describe_environment | cmp -s - .venv/made-from || ! .venv/bin/python -c '' 2>/dev/null; then
    make_environment
fi
PATH=$PWD/.venv/bin:$PATH
export PATH VIRTUAL_ENV=$PWD/.venv
unset PYTHONHOME PYTHONPATH
