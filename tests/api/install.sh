#!/bin/sh
# install.sh BUILD SOURCE: the library as a program outside finds it: installed below a prefix of its own, each
# example as C11 and as C++17, shared and static, by pkg-config and by find_package; and what the libraries show.
set -e
build=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "install: $*" >&2
    exit 1
}

cmake --install "$build" --prefix "$work/prefix" >"$work/log" || { cat "$work/log"; fail "cmake --install"; }
headers=$(find "$work/prefix/include" -type f)
[ "$headers" = "$work/prefix/include/dtrain.h" ] || fail "installed headers: $headers"
lib=$(dirname "$(find "$work/prefix" -name libdtrain.a)")
export PKG_CONFIG_PATH="$lib/pkgconfig"
flags() { # one word an argument
    pkg-config "$@" dtrain
}

# Only what the header declares, under a version.
declared=$(cc -E -P "$headers" | tr '\n' ' ' | grep -o 'visibility("default"))) [^(]*(' |
    sed 's/ *($//; s/.*[ *]//' | sort)
shown=$(nm -D --defined-only "$lib/libdtrain.so" | sed -n 's/.* [TDBR] //p' | sed 's/@.*//' | sort)
[ "$declared" = "$shown" ] || fail "libdtrain.so shows other names than dtrain.h declares"
static=$(nm -g --defined-only "$lib/libdtrain.a" | sed -n 's/^[0-9a-f]* [A-Za-z] //p' | sort)
[ "$declared" = "$static" ] || fail "libdtrain.a shows other names than dtrain.h declares"
objdump -p "$lib/libdtrain.so" | grep -q 'SONAME *libdtrain\.so\.0$' || fail "soname"

# The header alone, as strict C and C++.
printf '#include <dtrain.h>\nint main(void) { return dt_version()[0] == 0; }\n' >"$work/header.c"
cc -std=c11 -Wall -Wextra -pedantic -Werror $(flags --cflags) "$work/header.c" $(flags --libs) -o "$work/header" ||
    fail "the header is no C11"
c++ -std=c++17 -x c++ -Wall -Wextra -pedantic -Werror -fsyntax-only $(flags --cflags) "$work/header.c" ||
    fail "the header is no C++17"

for example in "$source"/examples/*.c; do
    name=$(basename "$example" .c)
    cc -std=c11 -Wall -Wextra -Werror $(flags --cflags) "$example" $(flags --libs) -lm -o "$work/$name-c" ||
        fail "$name as C11"
    c++ -std=c++17 -x c++ -Wall -Wextra -Wno-missing-field-initializers -Werror $(flags --cflags) "$example" -x none $(flags --libs) -lm -o "$work/$name-cpp" ||
        fail "$name as C++17"
    cc -std=c11 $(flags --cflags) "$example" -Wl,-Bstatic -ldtrain -Wl,-Bdynamic -L"$lib" \
        $(flags --libs --static | sed 's/-ldtrain//') -lm -o "$work/$name-static" || fail "$name, static"
    ldd "$work/$name-static" | grep -q libdtrain && fail "$name, static, needs libdtrain.so"
done
LD_LIBRARY_PATH=$lib "$work/header" || fail "the program does not start"
OMP_WAIT_POLICY=passive "$work/regression-static" >/dev/null || fail "regression, static, does not run"
OMP_WAIT_POLICY=passive LD_LIBRARY_PATH=$lib "$work/regression-cpp" >/dev/null ||
    fail "regression, as C++, does not run"

mkdir "$work/outside"
cat >"$work/outside/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.22)
project(outside C)
find_package(dtrain 0.1 REQUIRED)
add_executable(shared $source/examples/regression.c)
target_link_libraries(shared dtrain::dtrain m)
add_executable(static $source/examples/regression.c)
target_link_libraries(static dtrain::dtrain_static)
END
cmake -S "$work/outside" -B "$work/outside/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1 &&
    cmake --build "$work/outside/build" >>"$work/log" 2>&1 || { cat "$work/log"; fail "find_package"; }
"$work/outside/build/shared" >/dev/null || fail "find_package: the program does not run"
