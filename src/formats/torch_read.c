/* state_dicts of PyTorch: a zip file with a pickle that names storages, or, before 1.6, pickles in a row and the storages
 * behind them. A pickle is read by a machine that knows tuples, lists, dictionaries, texts and numbers, and the few names
 * that tensors are made of; it calls nothing, imports nothing, and an instruction or a name that it does not know ends
 * it. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "readers.h"
#include "formats/zip_stored.h"

enum {
    ITEMS_MAX =
        1 << 22 /* of a stack, a list, or objects in all: far beyond any network, and bounded memory */
};

typedef enum kind {
    NONE,
    INT,
    TEXT,
    SEQUENCE, /* tuples and lists */
    DICT,     /* key, value, key, value, ... */
    NAME,     /* of something in Python: an index of name_table */
    STORAGE,
    TENSOR,
    OTHER /* an object that is none of these: a device, a set, a float */
} kind;

typedef struct value {
    kind kind;
    int64_t i;         /* INT, NAME; TEXT: bytes */
    const char *s;     /* TEXT, not '\0'-terminated */
    struct object *of; /* SEQUENCE, DICT, STORAGE, TENSOR */
} value;

typedef struct object {
    struct object *next; /* all of a machine, to be freed */
    value *item;
    int64_t n, room;
    dt_file_tensor tensor; /* TENSOR; STORAGE: type, n_elem and data */
} object;

/* What a name of Python is to the machine. */
typedef enum meaning { IS_STORAGE, IS_DICT, IS_TENSOR, IS_PARAMETER, IS_SIZE, IS_OTHER } meaning;
typedef struct name_row {
    const char *module, *name;
    meaning means;
    dt_tensor_type type;
} name_row;

static const name_row name_table[] = {
    {"torch", "FloatStorage", IS_STORAGE, DT_TENSOR_F32},
    {"torch", "DoubleStorage", IS_STORAGE, DT_TENSOR_F64},
    {"torch", "HalfStorage", IS_STORAGE, DT_TENSOR_F16},
    {"torch", "BFloat16Storage", IS_STORAGE, DT_TENSOR_BF16},
    {"torch", "LongStorage", IS_STORAGE, DT_TENSOR_I64},
    {"torch", "IntStorage", IS_STORAGE, DT_TENSOR_I32},
    {"torch", "ShortStorage", IS_STORAGE, DT_TENSOR_I16},
    {"torch", "CharStorage", IS_STORAGE, DT_TENSOR_I8},
    {"torch", "ByteStorage", IS_STORAGE, DT_TENSOR_U8},
    {"torch", "BoolStorage", IS_STORAGE, DT_TENSOR_BOOL},
    {"torch", "ComplexFloatStorage", IS_STORAGE, DT_TENSOR_C64},
    {"collections", "OrderedDict", IS_DICT, 0},
    {"torch._utils", "_rebuild_tensor_v2", IS_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor", IS_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", IS_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", IS_PARAMETER, 0},
    {"torch", "Size", IS_SIZE, 0},
    {"torch", "device", IS_OTHER, 0},
    {"torch", "Tensor", IS_OTHER, 0},
    {"torch.nn.parameter", "Parameter", IS_OTHER, 0},
    {"collections", "Counter", IS_OTHER, 0},
    {"collections", "defaultdict", IS_DICT, 0},
    {"_codecs", "encode", IS_OTHER, 0},
    {"__builtin__", "dict", IS_OTHER, 0},
    {"__builtin__", "set", IS_OTHER, 0},
};
enum { N_NAME = sizeof name_table / sizeof name_table[0] };

/* The storages that a pickle of the old form asks for, in no order and some of them often. */
typedef struct storage_list {
    dt_zip_stored *item; /* n_bytes: of one number */
    int64_t n, room;
} storage_list;

typedef struct machine {
    const uint8_t *start, *at, *end;
    value *stack, *memo;
    int64_t n_stack, stack_room, n_memo, memo_room;
    int64_t *mark;
    int64_t n_mark, mark_room;
    object *all;
    int64_t n_object, gather_bytes; /* gather_bytes: that may yet be copied */
    const char *prefix;             /* of the archive's members, n_prefix bytes */
    size_t n_prefix;
    int64_t n_member;
    const dt_zip_stored *member;
    bool old;           /* the form before 1.6: members are called by the keys alone */
    storage_list *list; /* of the old form's first reading: filled, and no numbers are there yet */
    dt_tensors *t;
} machine;

static dt_status fail(const machine *m, const char *what) {
    return dt_fail(DT_ERR_DATA, "byte %lld of its pickle: %s", (long long)(m->at - m->start), what);
}

static dt_status grow(void **array, int64_t n, int64_t *room, size_t size) {
    if (n < *room) return DT_OK;
    const int64_t more = *room ? 2 * *room : 16;
    if (more > ITEMS_MAX) return dt_fail(DT_ERR_DATA, "its pickle holds more than a state_dict can");
    void *p = realloc(*array, (size_t)more * size);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for what its pickle holds");
    *array = p, *room = more;
    return DT_OK;
}

static dt_status push(machine *m, value v) {
    void *stack = m->stack;
    DT_TRY(grow(&stack, m->n_stack, &m->stack_room, sizeof v));
    m->stack = stack;
    m->stack[m->n_stack++] = v;
    return DT_OK;
}

/* The lowest place of the stack that may be taken: above the last mark. */
static int64_t floor_of(const machine *m) {
    return m->n_mark > 0 ? m->mark[m->n_mark - 1] : 0;
}

static dt_status pop(machine *m, value *out) {
    *out = (value){.kind = NONE};
    if (m->n_stack <= floor_of(m)) return fail(m, "takes what is not there");
    *out = m->stack[--m->n_stack];
    return DT_OK;
}

static dt_status new_object(machine *m, object **out) {
    *out = NULL;
    if (m->n_object == ITEMS_MAX / 4)
        return dt_fail(DT_ERR_DATA, "its pickle holds more than a state_dict can");
    object *o = calloc(1, sizeof *o);
    if (!o) return dt_fail(DT_ERR_MEMORY, "no memory for what its pickle holds");
    o->next = m->all;
    m->all = o;
    m->n_object++;
    *out = o;
    return DT_OK;
}

static dt_status push_object(machine *m, kind k, object **out) {
    DT_TRY(new_object(m, out));
    return push(m, (value){.kind = k, .of = *out});
}

static dt_status append(object *o, value v) {
    void *item = o->item;
    DT_TRY(grow(&item, o->n, &o->room, sizeof v));
    o->item = item;
    o->item[o->n++] = v;
    return DT_OK;
}

/* The n values on top of the stack, in their order, behind those of `o`. */
static dt_status move(machine *m, int64_t n, object *o) {
    if (m->n_stack - n < floor_of(m)) return fail(m, "takes what is not there");
    for (int64_t i = m->n_stack - n; i < m->n_stack; i++) DT_TRY(append(o, m->stack[i]));
    m->n_stack -= n;
    return DT_OK;
}

/* A tuple of the n values on top. */
static dt_status make_tuple(machine *m, int64_t n) {
    object *o;
    DT_TRY(new_object(m, &o));
    DT_TRY(move(m, n, o));
    return push(m, (value){.kind = SEQUENCE, .of = o});
}

/* How many values lie above the last mark, which is taken away. */
static dt_status above_mark(machine *m, int64_t *n) {
    *n = 0;
    if (m->n_mark == 0) return fail(m, "there is no mark");
    *n = m->n_stack - m->mark[--m->n_mark];
    return DT_OK;
}

static dt_status need(const machine *m, uint64_t n) {
    return (uint64_t)(m->end - m->at) >= n ? DT_OK : fail(m, "it ends too soon");
}

/* n bytes, little-endian. */
static dt_status number(machine *m, int n, uint64_t *out) {
    DT_TRY(need(m, (uint64_t)n));
    *out = 0;
    for (int i = 0; i < n; i++) *out |= (uint64_t)m->at[i] << 8 * i;
    m->at += n;
    return DT_OK;
}

static dt_status text(machine *m, uint64_t n) {
    DT_TRY(need(m, n));
    DT_TRY(push(m, (value){.kind = TEXT, .s = (const char *)m->at, .i = (int64_t)n}));
    m->at += n;
    return DT_OK;
}

static bool is_text(value v, const char *s) {
    return v.kind == TEXT && (size_t)v.i == strlen(s) && memcmp(v.s, s, strlen(s)) == 0;
}

/* ---- what is made of names ---- */

static dt_status line(machine *m, const char **s, int *n) {
    *s = "", *n = 0;
    const uint8_t *nl = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!nl || nl - m->at > 200) return fail(m, "a name that does not end");
    *s = (const char *)m->at;
    *n = (int)(nl - m->at);
    m->at = nl + 1;
    return DT_OK;
}

static dt_status global(machine *m) {
    const char *module, *name;
    int n_module, n_name;
    char shown[401];
    DT_TRY(line(m, &module, &n_module));
    DT_TRY(line(m, &name, &n_name));
    for (int64_t i = 0; i < N_NAME; i++)
        if ((int)strlen(name_table[i].module) == n_module &&
            memcmp(module, name_table[i].module, (size_t)n_module) == 0 &&
            (int)strlen(name_table[i].name) == n_name &&
            memcmp(name, name_table[i].name, (size_t)n_name) == 0)
            return push(m, (value){.kind = NAME, .i = i});
    snprintf(shown, sizeof shown, "%.*s.%.*s", n_module, module, n_name, name);
    for (char *c = shown; *c; c++)
        if (*c < 0x20 || *c > 0x7e) *c = '?';
    return dt_fail(DT_ERR_DATA,
                   "its pickle asks for %s, which is no part of a state_dict: nothing of a file is ever "
                   "executed; save the "
                   "weights alone, torch.save(model.state_dict(), ...)",
                   shown);
}

/* Only a part of a storage: (key of the part, its first number, how many), in files of the old form. */
static dt_status take_part(const machine *m, value part, int64_t size, dt_file_tensor *storage) {
    if (part.kind == NONE) return DT_OK;
    const value *v = part.kind == SEQUENCE && part.of->n == 3 ? part.of->item : NULL;
    if (!v || v[1].kind != INT || v[2].kind != INT || v[1].i < 0 || v[2].i < 0 || v[1].i > storage->n_elem ||
        v[2].i > storage->n_elem - v[1].i)
        return fail(m, "a part of a storage that is not in it");
    if (storage->data) storage->data = (const uint8_t *)storage->data + v[1].i * size;
    storage->n_elem = v[2].i;
    return DT_OK;
}

static const dt_zip_stored *find_storage(const machine *m, value key) {
    char name[512];
    if (m->old) return dt_zip_stored_find(m->n_member, m->member, key.s, (size_t)key.i);
    const int n =
        snprintf(name, sizeof name, "%.*sdata/%.*s", (int)m->n_prefix, m->prefix, (int)key.i, key.s);
    return dt_zip_stored_find(m->n_member, m->member, name, (size_t)n);
}

static dt_status note_storage(storage_list *list, value key, int64_t size) {
    void *item = list->item;
    DT_TRY(grow(&item, list->n, &list->room, sizeof *list->item));
    list->item = item;
    list->item[list->n++] = (dt_zip_stored){.name = key.s, .n_name = (int32_t)key.i, .n_bytes = size};
    return DT_OK;
}

/* ("storage", type, key, place, elements), and of the old form a part */
static dt_status make_storage(machine *m) {
    value id;
    object *o;
    DT_TRY(pop(m, &id));
    const value *v = id.kind == SEQUENCE && id.of->n >= 5 ? id.of->item : NULL;
    if (!v || !is_text(v[0], "storage") || v[1].kind != NAME || name_table[v[1].i].means != IS_STORAGE ||
        v[2].kind != TEXT || v[4].kind != INT || v[4].i < 0 || v[2].i > 64 || m->n_prefix > 400)
        return fail(m, "a reference that is not to a storage");
    const dt_tensor_type type = name_table[v[1].i].type;
    const int64_t one = 1;
    int64_t n_elem, size, n_bytes;
    if (!dt_file_tensor_size(type, 1, &one, &n_elem, &size) ||
        !dt_file_tensor_size(type, 1, &v[4].i, &n_elem, &n_bytes))
        return fail(m, "a storage of more numbers than the file has of it");
    const dt_zip_stored *member = m->list ? NULL : find_storage(m, v[2]);
    if (m->list) DT_TRY(note_storage(m->list, v[2], size));
    if (!m->list && (!member || member->packed))
        return fail(m, "a storage that is not in the file, or not as it is");
    if (member && n_bytes > member->n_bytes)
        return fail(m, "a storage of more numbers than the file has of it");
    DT_TRY(push_object(m, STORAGE, &o));
    o->tensor = (dt_file_tensor){.type = type, .n_elem = n_elem, .data = member ? member->data : NULL};
    return m->old && id.of->n >= 6 ? take_part(m, id.of->item[5], size, &o->tensor) : DT_OK;
}

static bool get_dims(value v, int32_t *n, int64_t dim[DT_MAX_DIM]) {
    if (v.kind != SEQUENCE || v.of->n > DT_MAX_DIM) return false;
    for (*n = 0; *n < v.of->n; ++*n) {
        const value d = v.of->item[*n];
        if (d.kind != INT || d.i < 0) return false;
        dim[*n] = d.i;
    }
    return true;
}

/* A tensor's numbers one after the other, where they lie apart. */
static dt_status gather(machine *m, const object *storage, int64_t offset, const int64_t *stride,
                        dt_file_tensor *t) {
    const int64_t size = t->n_bytes / t->n_elem;
    int64_t at[DT_MAX_DIM] = {0};
    if (t->n_bytes > m->gather_bytes) return fail(m, "more strided tensors than the file has numbers");
    m->gather_bytes -= t->n_bytes;
    char *to = dt_text_pool_take(&m->t->text, (size_t)t->n_bytes);
    if (!to) return dt_fail(DT_ERR_MEMORY, "no memory for a tensor of %lld bytes", (long long)t->n_bytes);
    t->data = to;
    for (int64_t i = 0; i < t->n_elem; i++, to += size) {
        int64_t from = offset;
        for (int32_t d = 0; d < t->ndim; d++) from += at[d] * stride[d];
        memcpy(to, (const uint8_t *)storage->tensor.data + from * size, (size_t)size);
        for (int32_t d = t->ndim - 1; d >= 0 && ++at[d] == t->dim[d]; d--) at[d] = 0;
    }
    return DT_OK;
}

/* (storage, offset, size, stride, ...) */
static dt_status make_tensor(machine *m, const object *args) {
    object *o;
    int32_t n_stride;
    int64_t stride[DT_MAX_DIM];
    dt_file_tensor t = {.name = ""};
    const value *v = args->item;
    if (args->n < 4 || v[0].kind != STORAGE || v[1].kind != INT || v[1].i < 0 ||
        !get_dims(v[2], &t.ndim, t.dim) || !get_dims(v[3], &n_stride, stride) || n_stride != t.ndim)
        return fail(m, "a tensor that is none");
    const object *storage = v[0].of;
    t.type = storage->tensor.type;
    int64_t last = v[1].i, step, packed = 1;
    bool apart = false;
    if (!dt_file_tensor_size(t.type, t.ndim, t.dim, &t.n_elem, &t.n_bytes))
        return fail(m, "a tensor of more than 2^63 bytes");
    for (int32_t d = t.ndim - 1; d >= 0 && t.n_elem > 0; d--) {
        if (__builtin_mul_overflow(t.dim[d] - 1, stride[d], &step) ||
            __builtin_add_overflow(last, step, &last))
            return fail(m, "a tensor that reaches beyond its storage");
        apart = apart || (t.dim[d] > 1 && stride[d] != packed);
        packed *= t.dim[d];
    }
    if (t.n_elem > 0 && last >= storage->tensor.n_elem)
        return fail(m, "a tensor that reaches beyond its storage");
    if (t.n_elem == 0 || m->list)
        t.data = storage->tensor.data;
    else if (apart)
        DT_TRY(gather(m, storage, v[1].i, stride, &t));
    else
        t.data = (const uint8_t *)storage->tensor.data + v[1].i * (t.n_bytes / t.n_elem);
    DT_TRY(push_object(m, TENSOR, &o));
    o->tensor = t;
    return DT_OK;
}

/* What a call would give. */
static dt_status reduce(machine *m) {
    value args, what;
    object *o;
    DT_TRY(pop(m, &args));
    DT_TRY(pop(m, &what));
    if (what.kind != NAME || args.kind != SEQUENCE) return fail(m, "a call of what is no name");
    switch (name_table[what.i].means) {
    case IS_DICT:
        return push_object(m, DICT, &o);
    case IS_TENSOR:
        return make_tensor(m, args.of);
    case IS_PARAMETER:
        if (args.of->n < 1 || args.of->item[0].kind != TENSOR)
            return fail(m, "a parameter that is no tensor");
        return push(m, args.of->item[0]);
    case IS_SIZE:
        return args.of->n == 1 ? push(m, args.of->item[0]) : fail(m, "a size of several tuples");
    case IS_OTHER:
        return push(m, (value){.kind = OTHER});
    case IS_STORAGE:
        break;
    }
    return fail(m, "a call of a type of storages");
}

/* n values on top into the list or dictionary below them. */
static dt_status fill(machine *m, kind k, int64_t n) {
    if (k == DICT && n % 2) return fail(m, "a key without a value");
    if (m->n_stack - n <= floor_of(m)) return fail(m, "takes what is not there");
    const value to = m->stack[m->n_stack - n - 1];
    if (to.kind == OTHER) {
        m->n_stack -= n;
        return DT_OK;
    }
    return to.kind == k ? move(m, n, to.of) : fail(m, "items for what takes none");
}

/* ---- the machine ---- */

static dt_status put(machine *m, uint64_t i) {
    if (m->n_stack <= floor_of(m)) return fail(m, "keeps what is not there");
    if (i > (uint64_t)m->n_memo) return fail(m, "keeps something out of order");
    if (i == (uint64_t)m->n_memo) {
        void *memo = m->memo;
        DT_TRY(grow(&memo, m->n_memo, &m->memo_room, sizeof *m->memo));
        m->memo = memo;
        m->n_memo++;
    }
    m->memo[i] = m->stack[m->n_stack - 1];
    return DT_OK;
}

static dt_status get(machine *m, uint64_t i) {
    return i < (uint64_t)m->n_memo ? push(m, m->memo[i]) : fail(m, "asks for what was not kept");
}

static dt_status set_mark(machine *m) {
    void *mark = m->mark;
    DT_TRY(grow(&mark, m->n_mark, &m->mark_room, sizeof *m->mark));
    m->mark = mark;
    m->mark[m->n_mark++] = m->n_stack;
    return DT_OK;
}

/* Up to 8 bytes, little-endian, with a sign. */
static dt_status long_integer(machine *m) {
    uint64_t n, v;
    DT_TRY(number(m, 1, &n));
    if (n > 8) return fail(m, "an integer beyond 64 bits");
    DT_TRY(number(m, (int)n, &v));
    if (n > 0 && n < 8 && v >> (8 * n - 1)) v |= UINT64_MAX << 8 * n;
    return push(m, (value){.kind = INT, .i = (int64_t)v});
}

static dt_status step(machine *m, uint8_t op) {
    uint64_t v = 0;
    int64_t n;
    object *o;
    value ignored;
    switch (op) {
    case 0x80: /* PROTO */
        DT_TRY(number(m, 1, &v));
        return v == 2
                   ? DT_OK
                   : fail(m,
                          "a protocol that PyTorch does not write by itself: save it again with torch.save");
    case '(':
        return set_mark(m);
    case 'c':
        return global(m);
    case 'R':
        return reduce(m);
    case 0x81: /* NEWOBJ */
        DT_TRY(pop(m, &ignored));
        DT_TRY(pop(m, &ignored));
        return push(m, (value){.kind = OTHER});
    case 'b': /* BUILD: what an object remembers beside its items */
        DT_TRY(pop(m, &ignored));
        return m->n_stack > floor_of(m) ? DT_OK : fail(m, "takes what is not there");
    case 'Q':
        return make_storage(m);
    case '}':
        return push_object(m, DICT, &o);
    case ']':
        return push_object(m, SEQUENCE, &o);
    case 0x8f: /* EMPTY_SET */
    case 'N':
        return push(m, (value){.kind = op == 'N' ? NONE : OTHER});
    case ')':
        return make_tuple(m, 0);
    case 0x85:
    case 0x86:
    case 0x87:
        return make_tuple(m, op - 0x84);
    case 't':
        DT_TRY(above_mark(m, &n));
        return make_tuple(m, n);
    case 's':
        return fill(m, DICT, 2);
    case 'a':
        return fill(m, SEQUENCE, 1);
    case 'u':
    case 'e':
        DT_TRY(above_mark(m, &n));
        return fill(m, op == 'u' ? DICT : SEQUENCE, n);
    case 'q':
    case 'r':
        DT_TRY(number(m, op == 'q' ? 1 : 4, &v));
        return put(m, v);
    case 'h':
    case 'j':
        DT_TRY(number(m, op == 'h' ? 1 : 4, &v));
        return get(m, v);
    case 'X':
    case 'U':
        DT_TRY(number(m, op == 'X' ? 4 : 1, &v));
        return text(m, v);
    case 'J':
        DT_TRY(number(m, 4, &v));
        return push(m, (value){.kind = INT, .i = (int32_t)(uint32_t)v});
    case 'K':
    case 'M':
        DT_TRY(number(m, op == 'K' ? 1 : 2, &v));
        return push(m, (value){.kind = INT, .i = (int64_t)v});
    case 0x8a:
        return long_integer(m);
    case 'G':
        DT_TRY(number(m, 8, &v));
        return push(m, (value){.kind = OTHER});
    case 0x88:
    case 0x89:
        return push(m, (value){.kind = INT, .i = op == 0x88});
    }
    return fail(m, "an instruction that no state_dict needs");
}

static dt_status run(machine *m, value *out) {
    while (m->at < m->end) {
        const uint8_t op = *m->at++;
        if (op == '.') return pop(m, out);
        DT_TRY(step(m, op));
    }
    return fail(m, "it ends too soon");
}

/* ---- the state_dict ---- */

static int64_t count_tensors(value v) {
    int64_t n = 0;
    for (int64_t i = 0; v.kind == DICT && i + 1 < v.of->n; i += 2)
        n += v.of->item[i].kind == TEXT && v.of->item[i + 1].kind == TENSOR;
    return n;
}

/* The dictionary of tensors itself, or within one of a training run by the names that are usual. */
static dt_status find_state(value top, value *out) {
    static const char *const usual[] = {"state_dict", "model_state_dict", "model",  "module",
                                        "net",        "network",          "weights"};
    *out = top;
    if (count_tensors(top) > 0) return DT_OK;
    for (size_t k = 0; k < sizeof usual / sizeof usual[0]; k++)
        for (int64_t i = 0; top.kind == DICT && i + 1 < top.of->n; i += 2) {
            if (!is_text(top.of->item[i], usual[k])) continue;
            *out = top.of->item[i + 1];
            if (count_tensors(*out) > 0) return DT_OK;
        }
    return dt_fail(
        DT_ERR_DATA,
        "its pickle holds no dictionary of tensors, neither by itself nor as state_dict or model: save "
        "model.state_dict()");
}

static dt_status take_state(machine *m, value state) {
    dt_tensors *t = m->t;
    t->tensor = calloc((size_t)count_tensors(state) + 1, sizeof *t->tensor);
    if (!t->tensor) return dt_fail(DT_ERR_MEMORY, "no memory for the list of its tensors");
    for (int64_t i = 0; i + 1 < state.of->n; i += 2) {
        const value key = state.of->item[i], v = state.of->item[i + 1];
        if (key.kind != TEXT || v.kind != TENSOR) continue;
        char *name = dt_text_pool_take(&t->text, (size_t)key.i + 1);
        if (!name) return dt_fail(DT_ERR_MEMORY, "no memory for the names of its tensors");
        memcpy(name, key.s, (size_t)key.i);
        name[key.i] = '\0';
        for (const char *c = name; *c;) {
            const int n = dt_utf8_bytes(c);
            if (n == 0) return dt_fail(DT_ERR_DATA, "the name of tensor %lld is not UTF-8", (long long)t->n);
            c += n;
        }
        if (strlen(name) != (size_t)key.i)
            return dt_fail(DT_ERR_DATA, "the name of tensor %lld has a zero in it", (long long)t->n);
        t->tensor[t->n] = v.of->tensor;
        t->tensor[t->n++].name = name;
    }
    return DT_OK;
}

static void free_machine(machine *m) {
    for (object *o = m->all, *next; o; o = next) {
        next = o->next;
        free(o->item);
        free(o);
    }
    free(m->stack), free(m->memo), free(m->mark);
}

static bool ends_in(const dt_zip_stored *member, const char *tail) {
    const size_t n = strlen(tail);
    return (size_t)member->n_name >= n && memcmp(member->name + member->n_name - n, tail, n) == 0;
}

static dt_status read_members(dt_tensors *t, int64_t file_bytes, int64_t n, const dt_zip_stored *member) {
    const dt_zip_stored *pickle = NULL;
    for (int64_t i = 0; i < n; i++) {
        if (ends_in(&member[i], "/constants.pkl"))
            return dt_fail(DT_ERR_DATA, "a TorchScript program: save the model's state_dict() instead");
        if (ends_in(&member[i], "/byteorder") &&
            (member[i].n_bytes != 6 || memcmp(member[i].data, "little", 6) != 0))
            return dt_fail(DT_ERR_DATA, "written on a machine with the other order of bytes");
        if (ends_in(&member[i], "/data.pkl")) pickle = &member[i];
    }
    if (!pickle || pickle->packed)
        return dt_fail(DT_ERR_DATA, "a zip file without data.pkl: not one of torch.save");
    machine m = {.start = pickle->data,
                 .at = pickle->data,
                 .end = pickle->data + pickle->n_bytes,
                 .prefix = pickle->name,
                 .n_prefix = (size_t)pickle->n_name - strlen("data.pkl"),
                 .gather_bytes = file_bytes,
                 .n_member = n,
                 .member = member,
                 .t = t};
    value top = {.kind = NONE}, state = top;
    dt_status st = run(&m, &top);
    if (st == DT_OK) st = find_state(top, &state);
    if (st == DT_OK) st = take_state(&m, state);
    free_machine(&m);
    return st;
}

bool dt_torch_knows(const dt_mapped_file *f) {
    return f->n_bytes > 4 && memcmp(f->byte, "PK\3\4", 4) == 0;
}

dt_status dt_torch_read(dt_tensors *t, const char *path, const dt_mapped_file *f) {
    (void)path;
    int64_t n;
    dt_zip_stored *member;
    dt_status st = dt_zip_stored_list(f, &n, &member);
    if (st == DT_OK) st = read_members(t, f->n_bytes, n, member);
    free(member);
    return st;
}

/* The form before 1.6: pickles one after another, the first of a magic number. */
static const uint8_t magic_pickle[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

bool dt_torch_knows_old(const dt_mapped_file *f) {
    return f->n_bytes > (int64_t)sizeof magic_pickle &&
           memcmp(f->byte, magic_pickle, sizeof magic_pickle) == 0;
}

/* The next of the pickles in a row, by a machine of its own; *end: where it ends. */
static dt_status read_pickle(machine *m, const dt_mapped_file *f, const uint8_t **end, value *out) {
    m->start = f->byte, m->at = *end, m->end = f->byte + f->n_bytes;
    const dt_status st = run(m, out);
    *end = m->at;
    return st;
}

/* What says how the file was written: the version of its form, and the machine. */
static dt_status read_head(const dt_mapped_file *f, const uint8_t **end) {
    machine m = {.start = NULL};
    value v;
    dt_status st = read_pickle(&m, f, end, &v);
    if (st == DT_OK && (v.kind != INT || v.i != 1001))
        st = dt_fail(DT_ERR_DATA, "a version of PyTorch's old form other than 1001");
    free_machine(&m);
    DT_TRY(st);
    m = (machine){.start = NULL};
    st = read_pickle(&m, f, end, &v);
    for (int64_t i = 0; st == DT_OK && v.kind == DICT && i + 1 < v.of->n; i += 2)
        if (is_text(v.of->item[i], "little_endian") && v.of->item[i + 1].kind == INT && !v.of->item[i + 1].i)
            st = dt_fail(DT_ERR_DATA, "written on a machine with the other order of bytes");
    free_machine(&m);
    return st;
}

/* Each storage once, ascending by key. */
static dt_status sort_storages(storage_list *list) {
    int64_t n = 0;
    if (list->n > 0) qsort(list->item, (size_t)list->n, sizeof *list->item, dt_zip_stored_by_name);
    for (int64_t i = 0; i < list->n; i++) {
        if (n > 0 && dt_zip_stored_by_name(&list->item[n - 1], &list->item[i]) == 0) {
            if (list->item[n - 1].n_bytes != list->item[i].n_bytes)
                return dt_fail(DT_ERR_DATA, "a storage with numbers of two sizes");
            continue;
        }
        list->item[n++] = list->item[i];
    }
    list->n = n;
    return DT_OK;
}

/* The storages behind the last pickle, each its number of numbers and they, in the order of the keys. */
static dt_status place_storages(machine *m, value keys, storage_list *list) {
    if (keys.kind != SEQUENCE) return fail(m, "no list of storages");
    for (int64_t i = 0; i < keys.of->n; i++) {
        const value key = keys.of->item[i];
        uint64_t n_elem = 0;
        if (key.kind != TEXT || key.i > 64) return fail(m, "a storage that has no key");
        const dt_zip_stored wanted = {.name = key.s, .n_name = (int32_t)key.i};
        dt_zip_stored *s =
            list->n > 0 ? bsearch(&wanted, list->item, (size_t)list->n, sizeof *s, dt_zip_stored_by_name)
                        : NULL;
        if (!s) return fail(m, "a storage of which no tensor is made");
        if (s->data) return fail(m, "a storage that is there twice");
        DT_TRY(number(m, 8, &n_elem));
        const uint64_t left = (uint64_t)(m->end - m->at), size = (uint64_t)s->n_bytes;
        if (n_elem > left / size) return fail(m, "a storage that the file ends in");
        s->data = m->at;
        s->n_bytes = (int64_t)(n_elem * size);
        m->at += n_elem * size;
    }
    for (int64_t i = 0; i < list->n; i++)
        if (!list->item[i].data) return fail(m, "a storage that is not in the file, or not as it is");
    return DT_OK;
}

/* The object's pickle comes before the storages, whose sizes only it tells: it is read once for these, and once more
 * when they have their places. */
static dt_status read_rows(dt_tensors *t, const dt_mapped_file *f, storage_list *list) {
    const uint8_t *end = f->byte + sizeof magic_pickle;
    value v, state;
    DT_TRY(read_head(f, &end));
    const uint8_t *const object_at = end;
    machine m = {.old = true, .list = list, .gather_bytes = f->n_bytes, .t = t};
    dt_status st = read_pickle(&m, f, &end, &v);
    free_machine(&m);
    DT_TRY(st);
    DT_TRY(sort_storages(list));
    m = (machine){.start = NULL};
    st = read_pickle(&m, f, &end, &v);
    if (st == DT_OK) st = place_storages(&m, v, list);
    free_machine(&m);
    DT_TRY(st);
    m = (machine){.old = true, .n_member = list->n, .member = list->item, .gather_bytes = f->n_bytes, .t = t};
    end = object_at;
    st = read_pickle(&m, f, &end, &v);
    if (st == DT_OK) st = find_state(v, &state);
    if (st == DT_OK) st = take_state(&m, state);
    free_machine(&m);
    return st;
}

dt_status dt_torch_read_old(dt_tensors *t, const char *path, const dt_mapped_file *f) {
    (void)path;
    storage_list list = {.n = 0};
    const dt_status st = read_rows(t, f, &list);
    free(list.item);
    return st;
}
