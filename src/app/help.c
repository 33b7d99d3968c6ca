/* --help and the manual page, out of the table of verbs. */
#include <string.h>

#include "command.h"
#include "core/version.h"

static const char name_line[] = "trains neural networks on one or many ranks";

/* What holds for every verb that reads a configuration or starts MPI. */
static const char config_about[] =
    "section.key=value overrides the file; dtrain config lists all keys. Relative paths, also those in the\n"
    "file, start at the working directory.";
static const char ranks_about[] =
    "One rank: as it stands. More on this host or others: launch/train [-n N] [-H HOST:N,...], or by Open\n"
    "MPI's own means mpirun -np N dtrain ...; under Slurm: srun --mpi=pmix dtrain ..., or the scripts in\n"
    "slurm/. Below what dtrain says of an error mpirun puts a box of its own: the reason stands above it, "
    "in\n"
    "the line that begins with \"dtrain:\". mpirun --quiet, or OMPI_MCA_orte_execute_quiet=1, leaves the "
    "box\n"
    "away, but then nothing says that a rank was killed, except exit code 137; launch/train leaves it away\n"
    "and says so itself.";

static void print_padded(FILE *out, const char *text, int width) {
    fprintf(out, "%s%*s", text, width > (int)strlen(text) ? width - (int)strlen(text) : 0, "");
}

/* Each line of the text, indented. */
static void print_lines(FILE *out, const char *text, const char *indent) {
    while (*text) {
        const int n = (int)strcspn(text, "\n");
        fprintf(out, "%s%.*s\n", n > 0 ? indent : "", n, text);
        text += n + (text[n] == '\n');
    }
}

/* "text (default: raw)", broken at spaces before the 100th column. */
static void print_wrapped(FILE *out, const char *text, int indent) {
    const int width = 100 - indent;
    while (*text) {
        int n = (int)strlen(text);
        if (n > width) {
            n = width;
            while (n > 1 && text[n] != ' ') n--;
        }
        fprintf(out, "%.*s\n", n, text);
        text += n;
        while (*text == ' ') text++;
        if (*text) fprintf(out, "%*s", indent, "");
    }
}

static void option_help(const dt_option *o, char *out, size_t size) {
    int n = snprintf(out, size, "%s", o->help);
    if (n < 0 || (size_t)n >= size) return;
    if (o->otherwise && strcmp(o->otherwise, "must be given") == 0)
        snprintf(out + n, size - (size_t)n, " (%s)", o->otherwise);
    else if (o->otherwise)
        snprintf(out + n, size - (size_t)n, " (default: %s)", o->otherwise);
    else if (o->max > 0)
        snprintf(out + n, size - (size_t)n, " (default: %lld)", (long long)o->fallback);
}

static void option_usage(const dt_option *o, char *out, size_t size) {
    snprintf(out, size, "--%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
}

static void print_exits(FILE *out) {
    fprintf(out, "\nexit codes:\n");
    for (int i = 0; i < dt_exit_count; i++)
        fprintf(out, "  %-3d %s\n", dt_exit_table[i].code, dt_exit_table[i].meaning);
}

void dt_help_print(FILE *out) {
    fprintf(out, "dtrain %s: %s\n\n", dt_version(), name_line);
    fprintf(out, "  dtrain CONFIG.toml [section.key=value ...]     the same under mpirun -np N\n\n");
    for (int i = 0; i < dt_verb_count; i++) {
        const dt_verb *v = &dt_verb_table[i];
        if (!v->run) continue;
        fprintf(out, "  dtrain ");
        print_padded(out, v->name, 12);
        fprintf(out, "  %s\n", v->help);
    }
    fprintf(out, "  dtrain VERB --help    its arguments, options and defaults, with examples\n"
                 "  dtrain --help | --version\n");
    print_exits(out);
}

/* "  command\n      what it does", or for the manual with its markup. */
static void print_examples(const dt_verb *v, FILE *out) {
    fprintf(out, "\nexamples:\n");
    for (const char *at = v->example; *at;) {
        const int n = (int)strcspn(at, "\n");
        const char *comment = strstr(at, "  # ");
        const int command = comment && comment < at + n ? (int)(comment - at) : n;
        fprintf(out, "  %.*s\n", command, at);
        if (command < n) fprintf(out, "      %.*s\n", n - command - 4, comment + 4);
        at += n + (at[n] == '\n');
    }
}

void dt_help_print_verb(const dt_verb *v, FILE *out) {
    char usage[64], help[512];
    fprintf(out, "usage: dtrain %s%s%s\n%s\n", v->name, *v->usage ? " " : "", v->usage, v->help);
    for (int i = 0; i < dt_verb_count; i++) {
        const dt_verb *below = &dt_verb_table[i];
        if (!dt_verb_is_below(below, v)) continue;
        fprintf(out, "\n  dtrain %s %s\n      %s; --help says more\n", below->name, below->usage,
                below->help);
    }
    if (v->about) {
        fputc('\n', out);
        print_lines(out, v->about, "");
    }
    if (v->option) {
        fprintf(out, "\noptions:\n");
        for (const dt_option *o = v->option; o->name; o++) {
            option_usage(o, usage, sizeof usage);
            option_help(o, help, sizeof help);
            fprintf(out, "  ");
            print_padded(out, usage, 28);
            fputc(' ', out);
            print_wrapped(out, help, 31);
        }
    }
    if (v->config) {
        fputc('\n', out);
        print_lines(out, config_about, "");
    }
    if (v->ranks) {
        fputc('\n', out);
        print_lines(out, ranks_about, "");
    }
    if (v->example) print_examples(v, out);
    print_exits(out);
}

/* ---- the manual page ---- */

/* Text as roff takes it: no line is a request, and a minus stays one. */
static void put_roff(FILE *out, const char *text, size_t n) {
    bool starts = true;
    for (size_t i = 0; i < n && text[i]; i++) {
        if (starts && (text[i] == '.' || text[i] == '\'')) fputs("\\&", out);
        starts = text[i] == '\n';
        if (text[i] == '\\')
            fputs("\\e", out);
        else if (text[i] == '-')
            fputs("\\-", out);
        else if (text[i] == '~')
            fputs("\\(ti", out);
        else if (text[i] == '^')
            fputs("\\(ha", out);
        else
            fputc(text[i], out);
    }
}

static void put_roff_text(FILE *out, const char *text) {
    put_roff(out, text, strlen(text));
}

static void put_roff_lines(FILE *out, const char *text) {
    fputs(".nf\n", out);
    while (*text) {
        const size_t n = strcspn(text, "\n");
        if (n > 0)
            put_roff(out, text, n);
        else
            fputs("\\&", out);
        fputc('\n', out);
        text += n + (text[n] == '\n');
    }
    fputs(".fi\n", out);
}

static void man_options(const dt_verb *v, FILE *out) {
    char usage[64], help[512];
    for (const dt_option *o = v->option; o && o->name; o++) {
        option_usage(o, usage, sizeof usage);
        option_help(o, help, sizeof help);
        fputs(".TP\n\\fB", out);
        put_roff_text(out, usage);
        fputs("\\fR\n", out);
        put_roff_text(out, help);
        fputc('\n', out);
    }
}

static void man_examples(const dt_verb *v, FILE *out) {
    for (const char *at = v->example; at && *at;) {
        const size_t n = strcspn(at, "\n");
        const char *comment = strstr(at, "  # ");
        const size_t command = comment && comment < at + n ? (size_t)(comment - at) : n;
        fputs(".PP\n", out);
        if (command < n) {
            put_roff(out, comment + 4, n - command - 4);
            fputs(":\n", out);
        }
        fputs(".RS 4\n.nf\n\\fB", out);
        put_roff(out, at, command);
        fputs("\\fR\n.fi\n.RE\n", out);
        at += n + (at[n] == '\n');
    }
}

static void man_verb(const dt_verb *v, FILE *out) {
    fputs(".SS \"dtrain ", out);
    put_roff_text(out, v->name);
    fputs("\"\n\\fBdtrain ", out);
    put_roff_text(out, v->name);
    fputs("\\fR ", out);
    put_roff_text(out, v->usage);
    fputs("\n.PP\n", out);
    put_roff_text(out, v->help);
    fputs(".\n", out);
    if (v->about) {
        fputs(".PP\n", out);
        put_roff_lines(out, v->about);
    }
    man_options(v, out);
    man_examples(v, out);
}

void dt_help_print_man(FILE *out) {
    fprintf(out, ".TH DTRAIN 1 \"" DT_DATE "\" \"dtrain %s\" \"User Commands\"\n.SH NAME\ndtrain \\- %s\n",
            dt_version(), name_line);
    fputs(".SH SYNOPSIS\n\\fBdtrain\\fR \\fICONFIG.toml\\fR [\\fIsection.key\\fR=\\fIvalue\\fR ...]\n.br\n"
          "\\fBdtrain\\fR \\fIVERB\\fR [\\fIARGUMENT\\fR ...]\n.br\n"
          "\\fBdtrain\\fR [\\fIVERB\\fR] \\fB\\-\\-help\\fR | \\fB\\-\\-version\\fR\n"
          ".SH DESCRIPTION\n",
          out);
    put_roff_text(out,
                  "dtrain trains convolutional image classifiers on CPUs and NVIDIA GPUs, by one process "
                  "or many that talk over MPI and NCCL, from one configuration file. The number of ranks "
                  "only divides the work, and a run that was stopped continues where it was.");
    fputs("\n.PP\n", out);
    put_roff_text(out, config_about);
    fputs("\n.PP\n", out);
    put_roff_text(out, ranks_about);
    fputs("\n.SH VERBS\n", out);
    for (int i = 0; i < dt_verb_count; i++)
        if (dt_verb_table[i].run) man_verb(&dt_verb_table[i], out);
    fputs(".SH EXIT STATUS\n", out);
    for (int i = 0; i < dt_exit_count; i++) {
        fprintf(out, ".TP\n%d\n", dt_exit_table[i].code);
        put_roff_text(out, dt_exit_table[i].meaning);
        fputc('\n', out);
    }
    fputs(".SH FILES\n.TP\n.I ~/.cache/dtrain\nwhich engine of cuDNN is the fastest, by graphics card\n"
          ".SH ENVIRONMENT\n.TP\n.B DTRAIN_START_TIMEOUT_S\nseconds that all ranks have to start, 300 "
          "without it\n.TP\n.B TMPDIR\nwhere Open MPI keeps files of a job: 10 MiB on every host\n"
          ".TP\n.B XDG_CACHE_HOME\ninstead of ~/.cache\n.SH SEE ALSO\n.BR mpirun (1),\n.BR sbatch (1)\n",
          out);
}
