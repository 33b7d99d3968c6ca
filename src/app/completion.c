/* Completion for bash, out of the table of verbs and the table of keys. */
#include <string.h>

#include "command.h"
#include "train/config.h"

/* The current word is taken from the line: bash would cut it at "=". Whatever finds nothing ends as the name
 * of a file (complete -o default). */
static const char body[] =
    "_dtrain_offer() { # WORDS: those that go on from $cur\n"
    "    local word\n"
    "    for word in $(compgen -W \"$1\" -- \"$cur\"); do COMPREPLY+=(\"$word\"); done\n"
    "}\n"
    "\n"
    "_dtrain_configs() { # files that can be a configuration, and directories on the way to one\n"
    "    local word\n"
    "    while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -f -X '!*.toml' -- \"$cur\")\n"
    "    while IFS= read -r word; do COMPREPLY+=(\"$word/\"); done < <(compgen -d -- \"$cur\")\n"
    "    case ${COMPREPLY[*]-} in */) compopt -o nospace 2>/dev/null ;; esac\n"
    "}\n"
    "\n"
    "_dtrain() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} cur words=() verb='' config='' i row\n"
    "    cur=${line##*[[:space:]]}\n"
    "    COMPREPLY=()\n"
    "    read -ra words <<<\"${line%\"$cur\"}\"\n"
    "    # launch/train: its own options, then dtrain's arguments\n"
    "    i=1\n"
    "    while [[ ${words[0]} != *dtrain ]] && [[ ${words[i]-} == -[nH] ]]; do i=$((i + 2)); done\n"
    "    words=(\"${words[@]:i}\")\n"
    "    if [ ${#words[@]} -eq 0 ]; then\n"
    "        _dtrain_offer \"$_dtrain_verbs --help --version\"\n"
    "        _dtrain_configs\n"
    "        return\n"
    "    fi\n"
    "    verb=${words[0]}\n"
    "    case $verb in\n"
    "    *.toml) verb=train ;;\n"
    "    *)\n"
    "        if [[ \" $_dtrain_groups \" == *\" $verb \"* ]]; then\n"
    "            if [ ${#words[@]} -eq 1 ]; then\n"
    "                _dtrain_below\n"
    "                return\n"
    "            fi\n"
    "            verb+=\" ${words[1]}\"\n"
    "        fi\n"
    "        ;;\n"
    "    esac\n"
    "    for row in \"${words[@]}\"; do [[ $row != *.toml ]] || config=yes; done\n"
    "    local options='' takes_config=''\n"
    "    _dtrain_verb\n"
    "    if [[ ${words[-1]} == --* && ${words[-1]} != *=* ]]; then\n"
    "        for row in $options; do\n"
    "            [[ $row == \"${words[-1]}=\"* ]] || continue\n"
    "            row=${row#*=}\n"
    "            _dtrain_offer \"${row//|/ }\"\n"
    "            return\n"
    "        done\n"
    "    fi\n"
    "    if [[ $cur == -* ]]; then\n"
    "        for row in $options --help; do _dtrain_offer \"${row%%=*}\"; done\n"
    "    elif [[ $cur == *.*=* ]]; then\n"
    "        local key=${cur%%=*}\n"
    "        for row in $_dtrain_keys; do\n"
    "            [ \"${row%%=*}\" = \"$key\" ] || continue\n"
    "            cur=${cur#*=} row=${row#*=}\n"
    "            _dtrain_offer \"${row//|/ }\"\n"
    "            [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=(\"${COMPREPLY[@]/#/$key=}\")\n"
    "            return\n"
    "        done\n"
    "    elif [ -n \"$takes_config\" ] && [ -z \"$config\" ]; then\n"
    "        _dtrain_configs\n"
    "    elif [ -n \"$takes_config\" ]; then\n"
    "        for row in $_dtrain_keys; do _dtrain_offer \"${row%%=*}=\"; done\n"
    "        [ ${#COMPREPLY[@]} -eq 0 ] || compopt -o nospace 2>/dev/null\n"
    "    elif [ \"$verb\" = 'data import' ] && [ ${#words[@]} -eq 2 ]; then\n"
    "        _dtrain_offer 'idx cifar10 cifar100 folder synthetic'\n"
    "    fi\n"
    "    return 0\n"
    "}\n"
    "complete -o bashdefault -o default -F _dtrain dtrain launch/train\n";

static void print_options(const dt_verb *v, FILE *out) {
    for (const dt_option *o = v->option; o && o->name; o++)
        fprintf(out, "%s--%s%s%s", o == v->option ? "" : " ", o->name, o->argument ? "=" : "",
                dt_option_has_choices(o) ? o->argument : "");
}

/* One function per question to the table. */
static void print_verbs(FILE *out) {
    const char *group = "";
    fputs("_dtrain_verbs='", out);
    for (int i = 0; i < dt_verb_count; i++)
        if (!strchr(dt_verb_table[i].name, ' ')) fprintf(out, "%s%s", i ? " " : "", dt_verb_table[i].name);
    fputs("'\n_dtrain_groups='", out);
    for (int i = 0; i < dt_verb_count; i++)
        if (!dt_verb_table[i].run) {
            fprintf(out, "%s%s", group, dt_verb_table[i].name);
            group = " ";
        }
    fputs("'\n\n_dtrain_below() { # the verbs of $verb\n    case $verb in\n", out);
    for (int g = 0; g < dt_verb_count; g++) {
        if (dt_verb_table[g].run) continue;
        fprintf(out, "    %s) _dtrain_offer '", dt_verb_table[g].name);
        for (int i = g + 1; i < dt_verb_count && dt_verb_is_below(&dt_verb_table[i], &dt_verb_table[g]); i++)
            fprintf(out, "%s%s", i > g + 1 ? " " : "", dt_verb_word(&dt_verb_table[i]));
        fputs("' ;;\n", out);
    }
    fputs("    esac\n}\n\n_dtrain_verb() { # the options of $verb, and whether it takes a configuration\n"
          "    case $verb in\n",
          out);
    for (int i = 0; i < dt_verb_count; i++) {
        const dt_verb *v = &dt_verb_table[i];
        if (!v->run || (!v->option && !v->config)) continue;
        fprintf(out, "    '%s') options='", v->name);
        print_options(v, out);
        fprintf(out, "' takes_config=%s ;;\n", v->config ? "yes" : "''");
    }
    fputs("    esac\n}\n\n", out);
}

void dt_help_print_completion(FILE *out) {
    fputs("# Completion of dtrain's verbs, options and keys for bash; dtrain completion prints it.\n"
          "# shellcheck shell=bash\n",
          out);
    fputs("_dtrain_keys='", out);
    dt_config_print_choices(out);
    fputs("'\n", out);
    print_verbs(out);
    fputs(body, out);
}
