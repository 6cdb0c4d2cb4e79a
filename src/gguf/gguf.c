#include "gguf/gguf.h"

#include "gguf/cursor.h"
#include "gguf/file.h"
#include "gguf/quote.h"
#include "gguf/synthetic.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Maps the regular file behind `fd`. */
static int map_file(int fd, const char *path, void **data, size_t *n_bytes, vly_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return vly_fail(err, VLY_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return vly_fail(err, VLY_E_IO, "%s: expected a GGUF file, got a %s", path,
                        S_ISDIR(st.st_mode) ? "directory" : "device, pipe or socket");
    if (st.st_size == 0)
        return vly_fail(err, VLY_E_FORMAT, "%s: expected a GGUF file, got an empty one", path);
    if ((uintmax_t)st.st_size > SIZE_MAX)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "%s: %jd bytes do not fit the address space of this program", path,
                        (intmax_t)st.st_size);
    *n_bytes = (size_t)st.st_size;
    *data = mmap(NULL, *n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (*data == MAP_FAILED)
        return vly_fail(err, errno == ENOMEM ? VLY_E_HOST_MEMORY : VLY_E_IO,
                        "%s: cannot map %zu bytes: %s", path, *n_bytes, strerror(errno));
    return 0;
}

/* Takes over `path` (heap, with the mapping; or NULL: the bytes are the caller's). */
static int open_image(const void *data, size_t n, char *path, vly_gguf **out, vly_error *err)
{
    vly_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf) {
        if (path) munmap((void *)(uintptr_t)data, n);
        free(path);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to open a GGUF file");
    }
    gguf->path = path;
    gguf->data = data;
    gguf->n_bytes = n;
    int rc = vly_gguf_parse(gguf, err);
    if (rc) {
        vly_fail_within(err, "%s", vly_gguf_path(gguf));
        vly_gguf_close(gguf);
        return rc;
    }
    *out = gguf;
    return 0;
}

static int open_mapping(const char *path, void *data, size_t n, vly_gguf **out, vly_error *err)
{
    char *copy = strdup(path);
    if (copy) return open_image(data, n, copy, out, err);
    munmap(data, n);
    return vly_fail(err, VLY_E_HOST_MEMORY, "%s: no memory to open it", path);
}

int vly_gguf_open_part(const char *path, vly_gguf **out, vly_error *err)
{
    *out = NULL;
    void *data = NULL;
    size_t n = 0;
    if (vly_synthetic_is(path)) {
        int rc = vly_synthetic_map(path, &data, &n, err);
        return rc ? rc : open_mapping(path, data, n, out, err);
    }
    /* Not to wait for the other end of a pipe. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return vly_fail(err, errno == ENOENT || errno == ENOTDIR ? VLY_E_NOT_FOUND : VLY_E_IO,
                        "%s: %s", path, strerror(errno));
    int rc = map_file(fd, path, &data, &n, err);
    close(fd);
    return rc ? rc : open_mapping(path, data, n, out, err);
}

int vly_gguf_open(const char *path, vly_gguf **out, vly_error *err)
{
    int rc = vly_gguf_open_part(path, out, err);
    if (rc == 0 && (rc = vly_gguf_join_parts(out, err))) {
        vly_gguf_close(*out);
        *out = NULL;
    }
    return rc;
}

int vly_gguf_open_memory(const void *data, size_t n, vly_gguf **out, vly_error *err)
{
    *out = NULL;
    return open_image(data, n, NULL, out, err);
}

void vly_gguf_close(vly_gguf *gguf)
{
    if (!gguf) return;
    for (uint32_t i = 1; i < gguf->n_parts; i++) vly_gguf_close(gguf->parts[i]);
    free(gguf->parts);
    for (size_t i = 0; i < gguf->n_records; i++) free(gguf->records[i].string_offsets);
    free(gguf->records);
    free(gguf->tensors);
    vly_name_index_deinit(&gguf->keys);
    vly_name_index_deinit(&gguf->tensor_names);
    if (gguf->path) munmap((void *)(uintptr_t)gguf->data, gguf->n_bytes);
    free(gguf->path);
    free(gguf);
}

const char *vly_gguf_path(const vly_gguf *gguf)
{
    return gguf->path ? gguf->path : "memory";
}

uint32_t vly_gguf_version(const vly_gguf *gguf)
{
    return gguf->version;
}

uint64_t vly_gguf_file_bytes(const vly_gguf *gguf)
{
    uint64_t n_bytes = gguf->n_bytes;
    for (uint32_t i = 1; i < gguf->n_parts; i++) n_bytes += gguf->parts[i]->n_bytes;
    return n_bytes;
}

uint32_t vly_gguf_n_parts(const vly_gguf *gguf)
{
    return gguf->n_parts ? gguf->n_parts : 1;
}

const char *vly_gguf_part_path(const vly_gguf *gguf, uint32_t part)
{
    assert(part < vly_gguf_n_parts(gguf));
    return vly_gguf_path(part ? gguf->parts[part] : gguf);
}

size_t vly_gguf_n_entries(const vly_gguf *gguf)
{
    return gguf->n_records;
}

const vly_gguf_entry *vly_gguf_entry_at(const vly_gguf *gguf, size_t i)
{
    assert(i < gguf->n_records);
    return &gguf->records[i].entry;
}

const vly_gguf_entry *vly_gguf_find(const vly_gguf *gguf, const char *key)
{
    return vly_name_index_find(&gguf->keys, (vly_bytes){key, strlen(key)});
}

vly_bytes vly_gguf_string_at(const vly_gguf *gguf, const vly_gguf_entry *array, uint64_t i)
{
    assert(array->type == VLY_GGUF_ARRAY && array->item_type == VLY_GGUF_STRING);
    assert(i < array->count);
    const gguf_record *record = (const gguf_record *)array;
    const uint8_t *p = gguf->data + record->string_offsets[i];
    return (vly_bytes){(const char *)p + sizeof(uint64_t), vly_load_le(p, sizeof(uint64_t))};
}

double vly_gguf_float_at(const vly_gguf_entry *array, uint64_t i)
{
    assert(array->type == VLY_GGUF_ARRAY && i < array->count);
    assert(array->item_type == VLY_GGUF_F32 || array->item_type == VLY_GGUF_F64);
    if (array->item_type == VLY_GGUF_F32) {
        uint32_t bits = (uint32_t)vly_load_le(array->value.items + 4 * i, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    uint64_t bits = vly_load_le(array->value.items + 8 * i, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

int64_t vly_gguf_int_at(const vly_gguf_entry *array, uint64_t i)
{
    assert(array->type == VLY_GGUF_ARRAY && i < array->count);
    const uint8_t *items = array->value.items;
    switch (array->item_type) {
    case VLY_GGUF_I8:
        return (int8_t)items[i];
    case VLY_GGUF_U16:
        return (uint16_t)vly_load_le(items + 2 * i, 2);
    case VLY_GGUF_I16:
        return (int16_t)vly_load_le(items + 2 * i, 2);
    case VLY_GGUF_U32:
        return (uint32_t)vly_load_le(items + 4 * i, 4);
    case VLY_GGUF_I32:
        return (int32_t)vly_load_le(items + 4 * i, 4);
    case VLY_GGUF_U64:
    case VLY_GGUF_I64:
        return (int64_t)vly_load_le(items + 8 * i, 8);
    default:
        assert(vly_gguf_type_bytes(array->item_type) == 1);
        return items[i];
    }
}

/* The entry of `key`, or NULL after failing, where one is needed. */
static const vly_gguf_entry *need(const vly_gguf *gguf, const char *key, vly_error *err)
{
    const vly_gguf_entry *entry = vly_gguf_find(gguf, key);
    if (!entry) vly_fail(err, VLY_E_FORMAT, "%s: key '%s' is missing", vly_gguf_path(gguf), key);
    return entry;
}

static int wrong_type(const vly_gguf *gguf, const vly_gguf_entry *entry, const char *expected,
                      vly_error *err)
{
    return vly_fail(err, VLY_E_FORMAT, "%s: key %s: expected %s, got a value of type %s",
                    vly_gguf_path(gguf), vly_quote(entry->key).text, expected,
                    vly_gguf_type_name(entry->type));
}

static int as_u32(const vly_gguf *gguf, const vly_gguf_entry *entry, uint32_t *out, vly_error *err)
{
    switch (entry->type) {
    case VLY_GGUF_I8:
    case VLY_GGUF_I16:
    case VLY_GGUF_I32:
    case VLY_GGUF_I64:
        if (entry->value.i < 0)
            return vly_fail(err, VLY_E_FORMAT, "%s: key %s: expected 0 to 4294967295, got %" PRId64,
                            vly_gguf_path(gguf), vly_quote(entry->key).text, entry->value.i);
        break;
    case VLY_GGUF_U8:
    case VLY_GGUF_U16:
    case VLY_GGUF_U32:
    case VLY_GGUF_U64:
        break;
    default:
        return wrong_type(gguf, entry, "an integer", err);
    }
    /* A signed value that is not negative has the same bits. */
    if (entry->value.u > UINT32_MAX)
        return vly_fail(err, VLY_E_FORMAT, "%s: key %s: expected 0 to 4294967295, got %" PRIu64,
                        vly_gguf_path(gguf), vly_quote(entry->key).text, entry->value.u);
    *out = (uint32_t)entry->value.u;
    return 0;
}

static int as_f32(const vly_gguf *gguf, const vly_gguf_entry *entry, float *out, vly_error *err)
{
    if (entry->type != VLY_GGUF_F32 && entry->type != VLY_GGUF_F64)
        return wrong_type(gguf, entry, "a floating-point number", err);
    if (!(fabs(entry->value.f) <= FLT_MAX))
        return vly_fail(err, VLY_E_FORMAT, "%s: key %s: expected a finite 32-bit float, got %g",
                        vly_gguf_path(gguf), vly_quote(entry->key).text, entry->value.f);
    *out = (float)entry->value.f;
    return 0;
}

static int as_string(const vly_gguf *gguf, const vly_gguf_entry *entry, vly_bytes *out,
                     vly_error *err)
{
    if (entry->type != VLY_GGUF_STRING) return wrong_type(gguf, entry, "a string", err);
    *out = entry->value.string;
    return 0;
}

int vly_gguf_u32(const vly_gguf *gguf, const char *key, uint32_t *out, vly_error *err)
{
    const vly_gguf_entry *entry = need(gguf, key, err);
    return entry ? as_u32(gguf, entry, out, err) : VLY_E_FORMAT;
}

int vly_gguf_u32_or(const vly_gguf *gguf, const char *key, uint32_t fallback, uint32_t *out,
                    vly_error *err)
{
    const vly_gguf_entry *entry = vly_gguf_find(gguf, key);
    if (entry) return as_u32(gguf, entry, out, err);
    *out = fallback;
    return 0;
}

int vly_gguf_f32(const vly_gguf *gguf, const char *key, float *out, vly_error *err)
{
    const vly_gguf_entry *entry = need(gguf, key, err);
    return entry ? as_f32(gguf, entry, out, err) : VLY_E_FORMAT;
}

int vly_gguf_f32_or(const vly_gguf *gguf, const char *key, float fallback, float *out,
                    vly_error *err)
{
    const vly_gguf_entry *entry = vly_gguf_find(gguf, key);
    if (entry) return as_f32(gguf, entry, out, err);
    *out = fallback;
    return 0;
}

int vly_gguf_bool_or(const vly_gguf *gguf, const char *key, bool fallback, bool *out,
                     vly_error *err)
{
    const vly_gguf_entry *entry = vly_gguf_find(gguf, key);
    if (entry && entry->type != VLY_GGUF_BOOL) return wrong_type(gguf, entry, "a bool", err);
    *out = entry ? entry->value.u != 0 : fallback;
    return 0;
}

int vly_gguf_string(const vly_gguf *gguf, const char *key, vly_bytes *out, vly_error *err)
{
    const vly_gguf_entry *entry = need(gguf, key, err);
    return entry ? as_string(gguf, entry, out, err) : VLY_E_FORMAT;
}

int vly_gguf_string_or(const vly_gguf *gguf, const char *key, const char *fallback, vly_bytes *out,
                       vly_error *err)
{
    const vly_gguf_entry *entry = vly_gguf_find(gguf, key);
    if (entry) return as_string(gguf, entry, out, err);
    *out = (vly_bytes){fallback, fallback ? strlen(fallback) : 0};
    return 0;
}

/* `inner`: whole pages of the tensor only, for its neighbours are still needed. A caller's memory
 * is no file's: to forget it would lose it. */
static void advise(const vly_gguf *gguf, const vly_gguf_tensor *t, int advice, bool inner)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)t->data;
    uintptr_t end = begin + t->n_bytes;
    begin = (inner ? begin + page - 1 : begin) / page * page;
    end = (inner ? end : end + page - 1) / page * page;
    if (gguf->path && end > begin) madvise((void *)begin, end - begin, advice);
}

void vly_gguf_will_need(const vly_gguf *gguf, const vly_gguf_tensor *tensor)
{
    advise(gguf, tensor, MADV_WILLNEED, false);
}

void vly_gguf_release(const vly_gguf *gguf, const vly_gguf_tensor *tensor)
{
    advise(gguf, tensor, MADV_DONTNEED, true);
}

size_t vly_gguf_n_tensors(const vly_gguf *gguf)
{
    return gguf->n_tensors;
}

const vly_gguf_tensor *vly_gguf_tensor_at(const vly_gguf *gguf, size_t i)
{
    assert(i < gguf->n_tensors);
    return &gguf->tensors[i];
}

const vly_gguf_tensor *vly_gguf_tensor_find(const vly_gguf *gguf, const char *name)
{
    return vly_name_index_find(&gguf->tensor_names, (vly_bytes){name, strlen(name)});
}
