#!/usr/bin/env bash
# What stands in the help: the manual page without a warning, completion of verbs, options and keys, and that the help of
# every verb says what it must.
. "$(dirname "$0")/lib.sh"

# ---- help ----
train_ok 0 help.log --help
mapfile -t verbs < <(sed -n 's/^  dtrain \([a-z][a-z ]*[a-z]\)   *[a-z].*/\1/p' help.log)
[ "${#verbs[@]}" -ge 13 ] || fail "--help lists ${#verbs[@]} verbs"
for verb in "${verbs[@]}"; do
    # shellcheck disable=SC2086 # one or two words
    train_ok 0 verb.log $verb --help
    expect verb.log "^usage: dtrain $verb( |\$)" 1
    expect verb.log '^examples:$' 1
    expect verb.log '^exit codes:$' 1
    expect verb.log '^  85  stopped by a signal, and saved$' 1
done
for verb in train eval predict; do
    train_ok 0 verb.log "$verb" --help
    expect verb.log 'run\.resume'
    expect verb.log 'mpirun -np N'
    expect verb.log 'srun --mpi=pmix'
    expect verb.log 'orte_execute_quiet'
done
train_ok 0 import.log data import --help
expect import.log '--quality N .*' 1
for fallback in 'train' 'raw' '90' '512' '3' 'as it is'; do expect import.log "default: $fallback\\)|^ +$fallback\\)"; done

# docs/data-format.md has the same defaults.
"$DTRAIN" man | sed -n '/^\.SS "dtrain data import"/,/^\.SS "dtrain data info"/p' | sed 's/\\-/-/g' |
    sed -n -E '/^\\fB--/{N;s/^\\fB(--[^\\]*)\\fR\n(.*)$/\1~\2/;s/~.* \((default: )?([^()]*)\)$/~\2/p}' |
    sed -E 's/\|/\\|/g;s/^(.*)~(.*)$/| `\1` | \2 |/' >defaults.log
[ "$(wc -l <defaults.log)" -ge 18 ] || fail "$(wc -l <defaults.log) options of data import"
diff defaults.log <(grep -E '^\| `--' "$E2E_SOURCE/../../docs/data-format.md") >offered.log ||
    fail "docs/data-format.md has other defaults than dtrain data import --help"

# What the help calls the defaults is what an import does without options.
"$MAKE_IMAGES" folder 8 5 >/dev/null
train_ok 0 import.log data import folder folder --resize 16 --square --out without
train_ok 0 import.log data import folder folder --resize 16 --square --out with --split train --store raw --shard-mib 512 \
    --threads 1 --channels 3
cmp without/shard-00000-of-00001.h5 with/shard-00000-of-00001.h5 || fail "the defaults are not those of --help"
train_ok 0 import.log data import folder folder --resize 16 --square --out jpeg --store jpeg
train_ok 0 import.log data import folder folder --resize 16 --square --out jpeg90 --store jpeg --quality 90
cmp jpeg/shard-00000-of-00001.h5 jpeg90/shard-00000-of-00001.h5 || fail "the default quality is not 90"

# ---- mistakes on the command line ----
mistake() {
    local want=$1
    shift
    train 0 mistake.log "$@"
    expect_code 2
    expect mistake.log "^dtrain: .*$want" 1
}
mistake 'did you mean --resize' data import folder folder --resiz 3 --out x
mistake 'did you mean train' trian base.toml
mistake 'did you mean verify' data verfy x
mistake '--store png: expected raw\|jpeg' data import folder folder --store png --out x
mistake '--square takes no value' data import folder folder --square=1 --out x
mistake '--out is there twice' data import folder folder --out x --out y
mistake 'eval: unknown option --top' eval base.toml --top 3
mistake 'unknown argument "more"' ops more
[ ! -e x ] || fail "a command line with a mistake made a data set"

# What the help says of mpirun's box.
train 2 plain.log base.toml train.epoch=3
expect_code 2
grep -vx -- '-*' plain.log | head -n 1 | grep -q '^dtrain: .*train\.epoch: unknown key' || fail "the reason is not above mpirun's box"
for _ in 1 2 3; do
    OMPI_MCA_orte_execute_quiet=1 train 2 quiet.log base.toml train.epoch=3
    [ -n "$locked_up" ] || break # mpirun has not said how it would have ended
done
expect_code 2
[ "$(wc -l <quiet.log)" -eq 1 ] || fail "mpirun adds to the reason although it was told to be quiet"

# ---- ops ----
train_ok 0 ops.log ops
expect ops.log '^conv, differentiable$' 1
expect ops.log '^  in  .* w T 4d'

# ---- the manual page ----
train_ok 0 dtrain.1 man
for verb in "${verbs[@]}"; do expect dtrain.1 "^\\.SS \"dtrain $verb\"\$" 1; done
expect dtrain.1 '^\.SH EXIT STATUS$' 1
if command -v groff >/dev/null; then
    groff -man -Tascii -ww dtrain.1 >manual.txt 2>groff.log || fail "groff does not take the manual page"
    [ ! -s groff.log ] || fail "groff warns of the manual page"
fi

# ---- completion ----
"$DTRAIN" completion >completion.bash
# complete_line LINE: what bash would offer at its end, a line each.
# shellcheck disable=SC2016 # the inner shell expands it
complete_line() {
    env -u BASH_ENV bash --norc -c '
        . ./completion.bash
        COMP_LINE=$1 COMP_POINT=${#1}
        complete -p dtrain launch/train >/dev/null || exit 1
        _dtrain
        printf "%s\n" "${COMPREPLY[@]}"' bash "$1" 2>completion.log
    [ ! -s completion.log ] || fail "completion of \"$1\" says: $(cat completion.log)"
}
offers() {
    local line=$1
    shift
    diff <(complete_line "$line" | sort) <(printf '%s\n' "$@" | sort) >offered.log || fail "completion of \"$line\""
}
offers 'dtrain ev' eval
offers 'dtrain data ' import info show verify
offers 'dtrain data import ' idx cifar10 cifar100 folder synthetic
offers 'dtrain data import folder photos --sto' --store
offers 'dtrain data import folder photos --store ' raw jpeg
offers 'dtrain data import folder photos --store=jpeg --qual' --quality
offers 'dtrain bench st' step
offers 'dtrain ba' base.toml
offers 'dtrain eval base.toml --re' --report
offers 'dtrain eval base.toml optim.mom' optim.momentum=
offers 'dtrain base.toml optim.kind=adamw' adamw
offers 'dtrain train base.toml augment.flip=' true false
offers 'launch/train -n 2 base.toml run.dev' run.device=
offers 'dtrain ops ' ''
complete_line 'dtrain config base.toml ' >keys.log
diff <(sed 's/=.*//' keys.log | sort) <("$DTRAIN" config | sed -n 's/^  \([a-z]*\.[a-z0-9_]*\) .*/\1/p' | sort) >offered.log ||
    fail "the keys that are completed are not those of dtrain config"
pass "${#verbs[@]} verbs, $(wc -l <keys.log) keys"
