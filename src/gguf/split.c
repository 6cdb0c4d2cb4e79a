/* Split files: NAME-00001-of-00003.gguf and so on. Each part is a GGUF file of its own with a part
 * of the tensors; the first one has the metadata. Keys of each: split.no, from 0; split.count; and
 * split.tensors.count, of all parts together. */
#include "gguf/file.h"
#include "gguf/quote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENDING_FORMAT "-%05" PRIu32 "-of-%05" PRIu32 ".gguf"
#define MAX_PARTS     99999 /* that five digits can tell */
#define SHOWN_MISSING 8

typedef struct {
    uint32_t no, count, n_tensors;
} split_keys;

static int read_keys(const vly_gguf *gguf, split_keys *out, vly_error *err)
{
    int rc = vly_gguf_u32_or(gguf, "split.count", 1, &out->count, err);
    if (rc == 0) rc = vly_gguf_u32_or(gguf, "split.no", 0, &out->no, err);
    if (rc == 0) rc = vly_gguf_u32_or(gguf, "split.tensors.count", 0, &out->n_tensors, err);
    if (rc) return rc;
    if (out->count <= MAX_PARTS && (out->count == 0 || out->no < out->count)) return 0;
    return vly_fail(err, VLY_E_FORMAT,
                    "%s: expected split.count of at most %d and split.no below it, got %" PRIu32
                    " and %" PRIu32,
                    vly_gguf_path(gguf), MAX_PARTS, out->count, out->no);
}

/* The bytes of `path` before the ending that a part of these keys has. VLY_E_FORMAT: it ends in
 * something else, so that the other parts' names are not known. */
static int find_stem(const char *path, const split_keys *keys, size_t *n, vly_error *err)
{
    char ending[64];
    size_t n_ending =
        (size_t)snprintf(ending, sizeof ending, ENDING_FORMAT, keys->no + 1, keys->count);
    size_t n_path = strlen(path);
    if (n_path < n_ending || strcmp(path + n_path - n_ending, ending) != 0)
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: it is part %" PRIu32 " of %" PRIu32
                        " of a split file; expected a name that ends in '%s'",
                        path, keys->no + 1, keys->count, ending);
    *n = n_path - n_ending;
    return 0;
}

/* The path of part `no`, to be freed by the caller; NULL without memory. */
static char *part_path(const char *path, size_t n_stem, uint32_t no, uint32_t count)
{
    char *out;
    return asprintf(&out, "%.*s" ENDING_FORMAT, (int)n_stem, path, no + 1, count) < 0 ? NULL : out;
}

/* Names the parts that are not there. */
static int fail_missing(const char *path, size_t n_stem, uint32_t count, vly_error *err)
{
    char numbers[16 * SHOWN_MISSING] = "";
    uint32_t n_missing = 0;
    size_t n = 0;
    for (uint32_t no = 0; no < count && n_missing <= SHOWN_MISSING; no++) {
        char *other = part_path(path, n_stem, no, count);
        if (other && access(other, F_OK) != 0 && n_missing++ < SHOWN_MISSING)
            n += (size_t)snprintf(numbers + n, sizeof numbers - n, "%s%05" PRIu32, n ? ", " : "",
                                  no + 1);
        free(other);
    }
    return vly_fail(err, VLY_E_NOT_FOUND,
                    "%s: expected all %" PRIu32
                    " parts of the split file in one folder; missing: %s%s",
                    path, count, numbers, n_missing > SHOWN_MISSING ? ", ..." : "");
}

static int check_part(const vly_gguf *part, uint32_t no, const split_keys *first, vly_error *err)
{
    split_keys keys;
    int rc = read_keys(part, &keys, err);
    if (rc) return rc;
    if (keys.no == no && keys.count == first->count && keys.n_tensors == first->n_tensors) return 0;
    return vly_fail(err, VLY_E_FORMAT,
                    "%s: expected part %" PRIu32 " of %" PRIu32 " with %" PRIu32
                    " tensors in all, got part %" PRIu32 " of %" PRIu32 " with %" PRIu32
                    ": it is not of the same split file as the other parts",
                    vly_gguf_path(part), no + 1, first->count, first->n_tensors, keys.no + 1,
                    keys.count, keys.n_tensors);
}

/* Opens what is not open yet of `parts` [keys->count]. */
static int open_parts(const char *path, size_t n_stem, const split_keys *keys, vly_gguf **parts,
                      vly_error *err)
{
    for (uint32_t no = 0; no < keys->count; no++) {
        if (parts[no]) continue;
        char *other = part_path(path, n_stem, no, keys->count);
        if (!other) return vly_fail(err, VLY_E_HOST_MEMORY, "%s: no memory for its parts", path);
        int rc = vly_gguf_open_part(other, &parts[no], err);
        free(other);
        if (rc == VLY_E_NOT_FOUND) return fail_missing(path, n_stem, keys->count, err);
        if (rc == 0) rc = check_part(parts[no], no, keys, err);
        if (rc) return rc;
    }
    return 0;
}

/* Makes the first part's directory that of all of them. */
static int join_tensors(vly_gguf *first, vly_gguf *const *parts, const split_keys *keys,
                        vly_error *err)
{
    size_t n = 0, at = 0, twice;
    for (uint32_t no = 0; no < keys->count; no++) n += parts[no]->n_tensors;
    if (n != keys->n_tensors)
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: split.tensors.count: expected the %zu tensors of its %" PRIu32
                        " parts, got %" PRIu32,
                        vly_gguf_path(first), n, keys->count, keys->n_tensors);
    vly_gguf_tensor *tensors = malloc((n + 1) * sizeof *tensors);
    if (!tensors)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the %zu tensors of a split file", n);
    for (uint32_t no = 0; no < keys->count; no++) {
        for (size_t i = 0; i < parts[no]->n_tensors; i++, at++) {
            tensors[at] = parts[no]->tensors[i];
            tensors[at].part = no;
        }
    }
    free(first->tensors);
    first->tensors = tensors;
    first->n_tensors = n;
    vly_name_index_deinit(&first->tensor_names);
    int rc = vly_name_index_init(&first->tensor_names, tensors, n, sizeof *tensors, &twice, err);
    if (rc == 0 && twice < n)
        rc = vly_fail(err, VLY_E_FORMAT, "%s: tensor %s is there twice",
                      vly_gguf_path(parts[tensors[twice].part]),
                      vly_quote(tensors[twice].name).text);
    return rc;
}

int vly_gguf_join_parts(vly_gguf **gguf, vly_error *err)
{
    split_keys keys;
    size_t n_stem = 0;
    int rc = read_keys(*gguf, &keys, err);
    if (rc || keys.count <= 1) return rc;
    const char *path = vly_gguf_path(*gguf);
    if ((rc = find_stem(path, &keys, &n_stem, err))) return rc;
    vly_gguf **parts = calloc(keys.count, sizeof(vly_gguf *));
    if (!parts) return vly_fail(err, VLY_E_HOST_MEMORY, "%s: no memory for its parts", path);
    parts[keys.no] = *gguf;
    rc = open_parts(path, n_stem, &keys, parts, err);
    if (rc == 0) rc = join_tensors(parts[0], parts, &keys, err);
    if (rc) {
        /* The caller still owns the one that it opened. */
        parts[keys.no] = NULL;
        for (uint32_t no = 0; no < keys.count; no++) vly_gguf_close(parts[no]);
        free(parts);
        return rc;
    }
    *gguf = parts[0];
    parts[0] = NULL; /* so that closing the first one closes the others, and not itself */
    (*gguf)->parts = parts;
    (*gguf)->n_parts = keys.count;
    return 0;
}
