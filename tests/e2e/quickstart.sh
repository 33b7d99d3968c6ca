#!/usr/bin/env bash
# launch/quickstart in a copy of the tree whose programs only write down how they were called: which data it finds and
# which dtrain it runs. Nothing is installed or built.
. "$(dirname "$0")/lib.sh"
tree="$work/a tree"
mkdir -p bin "$tree/build" "my images" astray/launch
cp -r "$E2E_SOURCE/../../launch" "$tree"

# stub PATH BODY
stub() {
    printf '#!/bin/sh\n%s\n' "$2" >"$1"
    chmod +x "$1"
}
stub bin/cmake 'exit 0'
stub bin/apt-get 'echo "apt-get $*"; exit 1'
stub bin/dpkg-query 'printf "installed "'
# shellcheck disable=SC2016 # the stub expands it
stub bin/mpirun 'while [ "$1" != "$DTRAIN" ]; do shift || exit 9; done; exec "$@"'
stub "$tree/build/dtrain" "printf '%s|' \"\$0\" \"\$@\" >>\"$work/calls\"; echo >>\"$work/calls\""
touch "my images/"{train,t10k}-images-idx3-ubyte.gz
export PATH=$work/bin:$PATH

# A relative folder is the caller's; an exported DTRAIN does not train what another one imported; nor does CDPATH lead away.
quickstart() { (cd "$1" && CDPATH=$work/astray DTRAIN=/absent DTRAIN_FASHION_MNIST=$2 timeout 60 "$3" train.epochs=3 run.out_dir="a b"); }
for call in "$work|my images|$tree/launch/quickstart" "$tree|../my images|launch/quickstart"; do
    IFS='|' read -r from folder command <<<"$call"
    rm -f calls
    quickstart "$from" "$folder" "$command" >quickstart.log 2>&1 </dev/null || fail "exit code $?"
    expect calls '' 3
    expect calls "^$tree/build/dtrain\|data\|import\|idx\|--images\|$from/$folder/(train|t10k)-images-idx3-ubyte.gz\|" 2
    expect calls "^$tree/build/dtrain\|configs/quickstart.toml\|train.epochs=3\|run.out_dir=a b\|$" 1
done

# What the system knows by name alone is not installed.
# shellcheck source=../../launch/lib.sh
missing() { (. "$tree/launch/lib.sh" && dt_packages_missing | wc -l); }
# shellcheck source=../../launch/lib.sh
all=$(. "$tree/launch/lib.sh" && dt_packages | wc -l)
[ "$(missing)" -eq 0 ] || fail "installed packages count as missing"
for status in not-installed half-installed config-files; do
    stub bin/dpkg-query "printf '$status '"
    [ "$(missing)" -eq "$all" ] || fail "$status counts as installed"
done
stub bin/dpkg-query 'printf "installed installed "'
[ "$(missing)" -eq 0 ] || fail "packages of two architectures count as missing"
pass "data, program and packages"
