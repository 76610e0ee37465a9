# shellcheck shell=bash
# Sourced by demo.sh and test.sh: a virtual environment that is whole, or is not there.
#
#   environment VENV PACKAGE...   makes VENV if need be, has pip install the packages, sets $python
#
# A relative VENV and $PYTHON are taken from the project's folder. pip is asked only where setup.py,
# pyproject.toml or the packages have changed since it last ended well. $PYTHON makes the
# environment; default python3.

complain() { # in one line, as the script that sources this file
  echo "$(basename "$0"): $*" >&2
}

needs_3_11() { # PYTHON WHERE REMEDY
  local found
  found="$("$1" -c 'import sys; print(*sys.version_info[:2], sep=".", end="")' 2> /dev/null)" || found=
  case "$found" in
    3.1[1-9] | 3.[2-9][0-9]*) ;;
    *)
      complain "$2: found ${found:+Python }${found:-no Python}, expected 3.11 or newer; $3"
      exit 2
      ;;
  esac
}

environment() {
  local venv="$1" made="" said
  local mark="$venv/.emoconv-unfinished" wanted
  shift
  # a run that was killed while it made this leaves its number in the mark
  if [ -f "$mark" ] && kill -0 "$(cat "$mark")" 2> /dev/null; then
    complain "$venv: another run is making it, wait for that one"
    exit 1
  elif [ -f "$mark" ]; then
    rm -rf "$venv"
  elif [ -n "$(ls -A "$venv" 2> /dev/null)" ] && [ ! -x "$venv/bin/python" ]; then
    complain "$venv: found no bin/python in it, expected a virtual environment; remove it or set EMOCONV_VENV"
    exit 2
  fi
  if [ ! -x "$venv/bin/python" ]; then
    needs_3_11 "${PYTHON:-python3}" "${PYTHON:-python3}" "PYTHON=python3.12, say, names another"
    made=yes unfinished="$venv"
    trap 'rm -rf "$unfinished"' EXIT
    mkdir -p "$venv"
    echo $$ > "$mark"
    if ! said="$("${PYTHON:-python3}" -m venv "$venv" 2>&1)"; then
      complain "$venv: cannot be made: $(tr -s '\n ' ' ' <<< "$said")"
      exit 1
    fi
  fi
  python="$venv/bin/python"
  needs_3_11 "$python" "$venv" "remove it or set EMOCONV_VENV"
  wanted="$PWD $* $(cat setup.py pyproject.toml)"
  if [ "$(cat "$venv/.emoconv-installed" 2> /dev/null)" != "$wanted" ]; then
    echo "installing into $venv"
    rm -f "$venv/.emoconv-installed"
    if said="$("$python" -m pip install --quiet --disable-pip-version-check --retries 2 "$@" 2>&1)"; then
      printf '%s\n' "$wanted" > "$venv/.emoconv-installed"
    else
      said="$(grep -m 1 '^ERROR' <<< "$said" || tail -n 1 <<< "$said")"
      if [ -n "$made" ]; then
        complain "packages cannot be installed and no environment is there yet (${said#ERROR: })"
        exit 1
      fi
      complain "packages cannot be updated, going on with those in $venv (${said#ERROR: })"
    fi
  fi
  if [ -n "$made" ]; then
    rm "$mark"
    trap - EXIT
  fi
}
