#!/bin/sh
# words.sh SOURCE: every key of a configuration that an error of the rooms below the API names has its word for programs
# in src/api/check.c. Files that only a configuration or an import reaches are left out.
set -e
source=$1
cd "$source/src"
section='(run|model|data|augment|train|optim|schedule|dist|checkpoint)'
files=$(ls core/*.c cpu/*.c gpu/*.c gpu/*.cu data/*.c dist/*.c model/builder.c model/layer.c model/losses.c \
    train/engine*.c train/checkpoint*.c train/profile*.c 2>/dev/null |
    grep -vE '/(options|schedule|optim|.*_read|import.*|source_.*|images_agree|quota|comm_mpi_nccl|bench|key)\.c$')
found=$(grep -hoE "(\"|[ (\`[])$section\.[a-z_]+" $files | grep -oE "$section\.[a-z_]+" | sort -u |
    grep -vE '^(run|model|data|train|dist|optim|checkpoint|schedule)\.(c|h|h5)$')
# Not reached: dt_net_save fixes how many are kept; a help text; a comment; an option that dt_data_open does not set;
# dt_loss gives the target itself; a program freezes by groups, and dt_data_open crops and flips alone.
found=$(echo "$found" | grep -vxE 'checkpoint\.keep_last|optim\.weight_decay|train\.deterministic|data\.documents|data\.mask_token|model\.task|model\.freeze|augment\.(policy|grayscale|mixup|cutmix)')
[ -n "$found" ] || { echo "words: found no key: the search is broken"; exit 1; }
code=0
for key in $found; do
    grep -q "$(echo "$key" | sed 's/\./\\./')" api/check.c && continue
    echo "words: $key is in an error of: $(grep -lE "\"[^\"]*\b$key" $files | tr '\n' ' ')and has no row in src/api/check.c"
    code=1
done
exit $code
