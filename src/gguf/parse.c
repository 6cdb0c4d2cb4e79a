/* The parser: header, metadata, tensor directory. Nothing in the file is believed: counts are held
 * against the bytes that are left, arrays grow with what was really read, and sums cannot wrap. */
#include "gguf/cursor.h"
#include "gguf/file.h"
#include "gguf/quote.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ALIGNMENT 32
#define MAX_NAME_BYTES    65535

/* The fewest bytes that an item can take, for refusing counts: a key's length, its first byte, the
 * type and a one-byte value; a name's length, its first byte, n_dims, one dim, format and offset.
 */
#define MIN_ENTRY_BYTES  (8 + 1 + 4 + 1)
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8)

/* Types by their number: a name, and the bytes of a value where those are fixed. */
static const struct {
    const char *name;
    unsigned n_bytes;
} types[] = {
    [VLY_GGUF_U8] = {"u8", 1},         [VLY_GGUF_I8] = {"i8", 1},       [VLY_GGUF_U16] = {"u16", 2},
    [VLY_GGUF_I16] = {"i16", 2},       [VLY_GGUF_U32] = {"u32", 4},     [VLY_GGUF_I32] = {"i32", 4},
    [VLY_GGUF_F32] = {"f32", 4},       [VLY_GGUF_BOOL] = {"bool", 1},   [VLY_GGUF_U64] = {"u64", 8},
    [VLY_GGUF_STRING] = {"string", 0}, [VLY_GGUF_ARRAY] = {"array", 0}, [VLY_GGUF_I64] = {"i64", 8},
    [VLY_GGUF_F64] = {"f64", 8},
};
#define N_TYPES (sizeof types / sizeof types[0])

unsigned vly_gguf_type_bytes(uint32_t type)
{
    return type < N_TYPES ? types[type].n_bytes : 0;
}

const char *vly_gguf_type_name(uint32_t type)
{
    return type < N_TYPES ? types[type].name : "unknown";
}

/* What people take for a model file, by how it begins. */
static const char *kind_of(const uint8_t *data, size_t n)
{
    static const struct {
        const char *start, *kind;
        size_t at;
    } kinds[] = {
        {"{\"", ": it looks like safetensors, which has to be converted to GGUF", 8},
        {"PK\3\4", ": it looks like PyTorch's, which has to be converted to GGUF", 0},
        {"version https://git-lfs", ": only Git LFS's pointer to the file was downloaded", 0},
        {"<", ": it looks like a web page", 0},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t len = strlen(kinds[i].start);
        if (n >= kinds[i].at + len && memcmp(data + kinds[i].at, kinds[i].start, len) == 0)
            return kinds[i].kind;
    }
    return "";
}

static int parse_header(vly_gguf *gguf, vly_cursor *c, uint64_t *n_entries, uint64_t *n_tensors,
                        vly_error *err)
{
    const uint8_t *magic;
    int rc = vly_cursor_take(c, 4, "magic", &magic, err);
    if (rc) return rc;
    if (memcmp(magic, "GGUF", 4) != 0)
        return vly_fail(err, VLY_E_FORMAT, "expected magic 'GGUF', got %s: not a GGUF file%s",
                        vly_quote((vly_bytes){(const char *)magic, 4}).text,
                        kind_of(magic, (size_t)c->n_bytes));
    rc = vly_cursor_u32(c, "version", &gguf->version, err);
    if (rc) return rc;
    /* A small number read from the wrong end has its low half empty. */
    if (gguf->version != 0 && (gguf->version & 0xffff) == 0)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "a big-endian GGUF file (version reads 0x%08" PRIx32
                        "); only little-endian files are read",
                        gguf->version);
    if (gguf->version != 2 && gguf->version != 3)
        return vly_fail(err, VLY_E_UNSUPPORTED, "GGUF version %" PRIu32 "; 2 and 3 are read",
                        gguf->version);
    rc = vly_cursor_u64(c, "tensor count", n_tensors, err);
    if (rc == 0) rc = vly_cursor_u64(c, "metadata count", n_entries, err);
    return rc;
}

/* Refuses a count whose items cannot be in the bytes that are left. */
static int check_count(const vly_cursor *c, const char *field, uint64_t count, uint64_t min_bytes,
                       vly_error *err)
{
    uint64_t most = vly_cursor_left(c) / min_bytes;
    if (count <= most) return 0;
    return vly_fail(err, VLY_E_FORMAT,
                    "%s: expected at most %" PRIu64 " (what the rest of the file can hold), got "
                    "%" PRIu64,
                    field, most, count);
}

static int parse_name(vly_cursor *c, const char *field, vly_bytes *out, vly_error *err)
{
    int rc = vly_cursor_string(c, field, out, err);
    if (rc) return rc;
    if (out->len == 0 || out->len > MAX_NAME_BYTES)
        return vly_fail(err, VLY_E_FORMAT, "%s: expected 1 to %d bytes, got %zu", field,
                        MAX_NAME_BYTES, out->len);
    return 0;
}

/* Two passes: only when every item was seen to be in the file is their index allocated. */
static int parse_strings(vly_cursor *c, gguf_record *record, vly_error *err)
{
    uint64_t count = record->entry.count;
    int rc = check_count(c, "array length", count, sizeof(uint64_t), err);
    if (rc) return rc;
    vly_cursor scan = *c;
    for (uint64_t i = 0; i < count; i++) {
        vly_bytes item;
        rc = vly_cursor_string(&scan, "string", &item, err);
        if (rc) return vly_fail_within(err, "array item %" PRIu64 " of %" PRIu64, i, count);
    }
    record->entry.value.items = c->data + c->at;
    if (count == 0) return 0;
    record->string_offsets = malloc(count * sizeof *record->string_offsets);
    if (!record->string_offsets)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to index %" PRIu64 " strings", count);
    for (uint64_t i = 0; i < count; i++) {
        record->string_offsets[i] = c->at;
        c->at += sizeof(uint64_t) + vly_load_le(c->data + c->at, sizeof(uint64_t));
    }
    return 0;
}

static int check_bools(const uint8_t *values, uint64_t n, vly_error *err)
{
    for (uint64_t i = 0; i < n; i++)
        if (values[i] > 1)
            return vly_fail(err, VLY_E_FORMAT, "bool: expected 0 or 1, got %d", values[i]);
    return 0;
}

static int parse_array(vly_cursor *c, gguf_record *record, vly_error *err)
{
    vly_gguf_entry *entry = &record->entry;
    uint32_t type;
    int rc = vly_cursor_u32(c, "array item type", &type, err);
    if (rc) return rc;
    if (type >= N_TYPES)
        return vly_fail(err, VLY_E_FORMAT, "array item type: expected 0 to %zu, got %" PRIu32,
                        N_TYPES - 1, type);
    if (type == VLY_GGUF_ARRAY)
        return vly_fail(err, VLY_E_UNSUPPORTED, "an array of arrays; those are not read");
    entry->item_type = (vly_gguf_type)type;
    rc = vly_cursor_u64(c, "array length", &entry->count, err);
    if (rc) return rc;
    if (type == VLY_GGUF_STRING) return parse_strings(c, record, err);
    rc = check_count(c, "array length", entry->count, types[type].n_bytes, err);
    if (rc) return rc;
    rc = vly_cursor_take(c, entry->count * types[type].n_bytes, "array items", &entry->value.items,
                         err);
    if (rc == 0 && type == VLY_GGUF_BOOL) rc = check_bools(entry->value.items, entry->count, err);
    return rc;
}

static int parse_scalar(vly_cursor *c, vly_gguf_entry *entry, vly_error *err)
{
    const uint8_t *p = NULL;
    unsigned n_bytes = types[entry->type].n_bytes;
    int rc = vly_cursor_take(c, n_bytes, "value", &p, err);
    if (rc) return rc;
    uint64_t bits = vly_load_le(p, n_bytes);
    switch (entry->type) {
    case VLY_GGUF_I8:
        entry->value.i = (int8_t)bits;
        break;
    case VLY_GGUF_I16:
        entry->value.i = (int16_t)bits;
        break;
    case VLY_GGUF_I32:
        entry->value.i = (int32_t)bits;
        break;
    case VLY_GGUF_I64:
        entry->value.i = (int64_t)bits;
        break;
    case VLY_GGUF_F32: {
        uint32_t bits32 = (uint32_t)bits;
        float value;
        memcpy(&value, &bits32, sizeof value);
        entry->value.f = (double)value;
        break;
    }
    case VLY_GGUF_F64:
        memcpy(&entry->value.f, &bits, sizeof bits);
        break;
    case VLY_GGUF_BOOL:
        rc = check_bools(p, 1, err); /* fall through */
    default:
        entry->value.u = bits;
    }
    return rc;
}

static int parse_entry(vly_cursor *c, gguf_record *record, vly_error *err)
{
    vly_gguf_entry *entry = &record->entry;
    uint32_t type;
    int rc = vly_cursor_u32(c, "value type", &type, err);
    if (rc) return rc;
    if (type >= N_TYPES)
        return vly_fail(err, VLY_E_FORMAT, "value type: expected 0 to %zu, got %" PRIu32,
                        N_TYPES - 1, type);
    entry->type = (vly_gguf_type)type;
    if (type == VLY_GGUF_ARRAY) return parse_array(c, record, err);
    if (type == VLY_GGUF_STRING) return vly_cursor_string(c, "string", &entry->value.string, err);
    return parse_scalar(c, entry, err);
}

/* Makes room for one more item and zeroes it; doubles. `n` is how many there are. */
static void *grow(void *items, size_t n, size_t *cap, size_t item_bytes)
{
    if (n == *cap) {
        size_t cap_new = *cap ? 2 * *cap : 16;
        if (cap_new > SIZE_MAX / item_bytes) return NULL;
        items = realloc(items, cap_new * item_bytes);
        if (!items) return NULL;
        *cap = cap_new;
    }
    memset((char *)items + n * item_bytes, 0, item_bytes);
    return items;
}

static int parse_entries(vly_gguf *gguf, vly_cursor *c, uint64_t n_entries, vly_error *err)
{
    int rc = check_count(c, "metadata count", n_entries, MIN_ENTRY_BYTES, err);
    if (rc) return rc;
    size_t cap = 0;
    for (uint64_t i = 0; i < n_entries; i++) {
        gguf_record *grown = grow(gguf->records, i, &cap, sizeof *grown);
        if (!grown)
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %" PRIu64 " metadata entries",
                            n_entries);
        gguf->records = grown;
        gguf->n_records = i + 1;
        rc = parse_name(c, "key", &grown[i].entry.key, err);
        if (rc) return vly_fail_within(err, "metadata entry %" PRIu64 " of %" PRIu64, i, n_entries);
        rc = parse_entry(c, &grown[i], err);
        if (rc) return vly_fail_within(err, "key %s", vly_quote(grown[i].entry.key).text);
    }
    size_t twice;
    rc = vly_name_index_init(&gguf->keys, gguf->records, gguf->n_records, sizeof *gguf->records,
                             &twice, err);
    if (rc == 0 && twice < gguf->n_records)
        rc = vly_fail(err, VLY_E_FORMAT, "key %s is there twice",
                      vly_quote(gguf->records[twice].entry.key).text);
    return rc;
}

static int parse_dims(vly_cursor *c, vly_gguf_tensor *t, vly_error *err)
{
    int rc = vly_cursor_u32(c, "number of dims", &t->n_dims, err);
    if (rc) return rc;
    if (t->n_dims < 1 || t->n_dims > 4)
        return vly_fail(err, VLY_E_FORMAT, "number of dims: expected 1 to 4, got %" PRIu32,
                        t->n_dims);
    uint64_t n_weights = 1;
    for (uint32_t i = 0; i < 4; i++) {
        t->dims[i] = 1;
        if (i < t->n_dims) rc = vly_cursor_u64(c, "dims", &t->dims[i], err);
        if (rc) return rc;
        /* 2^60 weights of 8 bytes are still a 64-bit size. */
        if (t->dims[i] == 0 || __builtin_mul_overflow(n_weights, t->dims[i], &n_weights) ||
            n_weights > UINT64_C(1) << 60)
            return vly_fail(err, VLY_E_FORMAT,
                            "dims[%" PRIu32 "]: expected 1 or more, and at most 2^60 weights in "
                            "all, got %" PRIu64,
                            i, t->dims[i]);
    }
    return 0;
}

/* Leaves the offset as the file has it: from the start of the data. */
static int parse_tensor(vly_cursor *c, vly_gguf_tensor *t, vly_error *err)
{
    uint32_t ggml_id;
    int rc = parse_dims(c, t, err);
    if (rc == 0) rc = vly_cursor_u32(c, "format", &ggml_id, err);
    if (rc == 0) rc = vly_cursor_u64(c, "offset", &t->offset, err);
    if (rc) return rc;
    t->format = vly_format_by_ggml_id(ggml_id);
    if (!t->format)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "format number %" PRIu32
                        " is not a known one; the formats that work are %s",
                        ggml_id, vly_format_computable_names());
    if (t->dims[0] % t->format->block_weights)
        return vly_fail(err, VLY_E_FORMAT,
                        "dims[0]: expected a multiple of %" PRIu32 " (the block of %s), got "
                        "%" PRIu64,
                        t->format->block_weights, t->format->name, t->dims[0]);
    t->n_bytes = t->dims[0] / t->format->block_weights * t->dims[1] * t->dims[2] * t->dims[3] *
                 t->format->block_bytes;
    return 0;
}

static int parse_tensors(vly_gguf *gguf, vly_cursor *c, uint64_t n_tensors, vly_error *err)
{
    int rc = check_count(c, "tensor count", n_tensors, MIN_TENSOR_BYTES, err);
    if (rc) return rc;
    size_t cap = 0;
    for (uint64_t i = 0; i < n_tensors; i++) {
        vly_gguf_tensor *grown = grow(gguf->tensors, i, &cap, sizeof *grown);
        if (!grown)
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %" PRIu64 " tensors", n_tensors);
        gguf->tensors = grown;
        gguf->n_tensors = i + 1;
        rc = parse_name(c, "name", &grown[i].name, err);
        if (rc) return vly_fail_within(err, "tensor %" PRIu64 " of %" PRIu64, i, n_tensors);
        rc = parse_tensor(c, &grown[i], err);
        if (rc) return vly_fail_within(err, "tensor %s", vly_quote(grown[i].name).text);
    }
    size_t twice;
    rc = vly_name_index_init(&gguf->tensor_names, gguf->tensors, gguf->n_tensors,
                             sizeof *gguf->tensors, &twice, err);
    if (rc == 0 && twice < gguf->n_tensors)
        rc = vly_fail(err, VLY_E_FORMAT, "tensor %s is there twice",
                      vly_quote(gguf->tensors[twice].name).text);
    return rc;
}

static int read_alignment(const vly_gguf *gguf, uint64_t *alignment, vly_error *err)
{
    *alignment = DEFAULT_ALIGNMENT;
    const vly_gguf_entry *entry = vly_gguf_find(gguf, "general.alignment");
    if (!entry) return 0;
    if (entry->type != VLY_GGUF_U32)
        return vly_fail(err, VLY_E_FORMAT, "key 'general.alignment': expected u32, got %s",
                        vly_gguf_type_name(entry->type));
    *alignment = entry->value.u;
    if (*alignment == 0 || (*alignment & (*alignment - 1)))
        return vly_fail(err, VLY_E_FORMAT,
                        "key 'general.alignment': expected a power of two, got %" PRIu64,
                        *alignment);
    return 0;
}

/* Turns offsets into ones from the start of the file, and holds every tensor against the file. */
static int place_tensors(vly_gguf *gguf, uint64_t directory_end, vly_error *err)
{
    uint64_t alignment;
    int rc = read_alignment(gguf, &alignment, err);
    if (rc) return rc;
    uint64_t data_start = (directory_end + alignment - 1) & ~(alignment - 1);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        vly_gguf_tensor *t = &gguf->tensors[i];
        if (t->offset & (alignment - 1))
            return vly_fail(err, VLY_E_FORMAT,
                            "tensor %s: offset: expected a multiple of %" PRIu64
                            " (the alignment), got %" PRIu64,
                            vly_quote(t->name).text, alignment, t->offset);
        uint64_t end;
        if (__builtin_add_overflow(t->offset, data_start, &t->offset) ||
            __builtin_add_overflow(t->offset, t->n_bytes, &end) || end > gguf->n_bytes)
            return vly_fail(err, VLY_E_FORMAT,
                            "tensor %s: expected %" PRIu64 " bytes at byte %" PRIu64
                            ", but the file has %" PRIu64 " bytes: truncated",
                            vly_quote(t->name).text, t->n_bytes, t->offset, gguf->n_bytes);
        t->data = gguf->data + t->offset;
    }
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const vly_gguf_tensor *x = *(const vly_gguf_tensor *const *)a;
    const vly_gguf_tensor *y = *(const vly_gguf_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_overlap(const vly_gguf *gguf, vly_error *err)
{
    size_t n = gguf->n_tensors;
    if (n < 2) return 0;
    const vly_gguf_tensor **sorted = malloc(n * sizeof(const vly_gguf_tensor *));
    if (!sorted) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to sort %zu tensors", n);
    for (size_t i = 0; i < n; i++) sorted[i] = &gguf->tensors[i];
    qsort(sorted, n, sizeof sorted[0], by_offset);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++) {
        const vly_gguf_tensor *before = sorted[i - 1], *t = sorted[i];
        if (t->offset - before->offset < before->n_bytes)
            rc = vly_fail(err, VLY_E_FORMAT,
                          "tensor %s: offset: expected to lie behind tensor %s, which ends at byte "
                          "%" PRIu64 ", got byte %" PRIu64,
                          vly_quote(t->name).text, vly_quote(before->name).text,
                          before->offset + before->n_bytes, t->offset);
    }
    free(sorted);
    return rc;
}

int vly_gguf_parse(vly_gguf *gguf, vly_error *err)
{
    vly_cursor c = {.data = gguf->data, .n_bytes = gguf->n_bytes};
    uint64_t n_entries, n_tensors;
    int rc = parse_header(gguf, &c, &n_entries, &n_tensors, err);
    if (rc == 0) rc = parse_entries(gguf, &c, n_entries, err);
    if (rc == 0) rc = parse_tensors(gguf, &c, n_tensors, err);
    if (rc == 0) rc = place_tensors(gguf, c.at, err);
    if (rc == 0) rc = check_overlap(gguf, err);
    return rc;
}
