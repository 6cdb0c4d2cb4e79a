#include "tests/support/gguf_copy.h"

#include "tests/support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `bytes` terminated, to be freed. */
static char *text_of(vly_bytes bytes)
{
    char *text;
    if (asprintf(&text, "%.*s", (int)bytes.len, bytes.data) < 0) abort();
    return text;
}

static void copy_strings(gguf_writer *w, const char *key, const vly_gguf *gguf,
                         const vly_gguf_entry *entry)
{
    vly_bytes *items = calloc(entry->count + 1, sizeof *items);
    if (!items) abort();
    for (uint64_t i = 0; i < entry->count; i++) items[i] = vly_gguf_string_at(gguf, entry, i);
    gguf_writer_strings(w, key, items, entry->count);
    free(items);
}

static void copy_entry(gguf_writer *w, const vly_gguf *gguf, const vly_gguf_entry *entry)
{
    char *key = text_of(entry->key), *text;
    switch (entry->type) {
    case VLY_GGUF_STRING:
        text = text_of(entry->value.string);
        gguf_writer_string(w, key, text);
        free(text);
        break;
    case VLY_GGUF_ARRAY:
        if (entry->item_type == VLY_GGUF_STRING)
            copy_strings(w, key, gguf, entry);
        else
            gguf_writer_numbers(w, key, entry->item_type, entry->value.items, entry->count);
        break;
    case VLY_GGUF_F32:
    case VLY_GGUF_F64:
        gguf_writer_float(w, key, entry->type, entry->value.f);
        break;
    default:
        if (strcmp(key, "general.alignment") == 0)
            gguf_writer_alignment(w, (uint32_t)entry->value.u);
        else
            gguf_writer_unsigned(w, key, entry->type, entry->value.u);
    }
    free(key);
}

/* All but `key`, which may be NULL. */
static void copy_entries_but(gguf_writer *w, const vly_gguf *gguf, const char *key)
{
    for (size_t i = 0; i < vly_gguf_n_entries(gguf); i++) {
        const vly_gguf_entry *entry = vly_gguf_entry_at(gguf, i);
        if (!key || entry->key.len != strlen(key) || memcmp(entry->key.data, key, strlen(key)) != 0)
            copy_entry(w, gguf, entry);
    }
}

static void copy_tensor(gguf_writer *w, const vly_gguf_tensor *t)
{
    char *name = text_of(t->name);
    gguf_writer_tensor(w, name, t->n_dims, t->dims, t->format->ggml_id, t->data, t->n_bytes);
    free(name);
}

/* Destroys `w`. */
static void save_with_tensors(gguf_writer *w, const vly_gguf *gguf, const char *path)
{
    for (size_t i = 0; i < vly_gguf_n_tensors(gguf); i++)
        copy_tensor(w, vly_gguf_tensor_at(gguf, i));
    if (gguf_writer_save(w, path)) abort();
    gguf_writer_destroy(w);
}

void gguf_copy_with(const vly_gguf *gguf, const char *key, const char *text, const char *path)
{
    gguf_writer *w = gguf_writer_create(3);
    copy_entries_but(w, gguf, NULL);
    gguf_writer_string(w, key, text);
    save_with_tensors(w, gguf, path);
}

void gguf_copy_with_number(const vly_gguf *gguf, const char *key, uint32_t value, const char *path)
{
    gguf_writer *w = gguf_writer_create(3);
    copy_entries_but(w, gguf, key);
    gguf_writer_unsigned(w, key, VLY_GGUF_U32, value);
    save_with_tensors(w, gguf, path);
}

void gguf_copy_split(const vly_gguf *gguf, const char *stem, unsigned n_parts)
{
    size_t n = vly_gguf_n_tensors(gguf);
    for (unsigned no = 0; no < n_parts; no++) {
        gguf_writer *w = gguf_writer_create(3);
        if (no == 0) copy_entries_but(w, gguf, NULL);
        gguf_writer_unsigned(w, "split.no", VLY_GGUF_U16, no);
        gguf_writer_unsigned(w, "split.count", VLY_GGUF_U16, n_parts);
        gguf_writer_signed(w, "split.tensors.count", VLY_GGUF_I32, (int64_t)n);
        for (size_t i = n * no / n_parts; i < n * (no + 1) / n_parts; i++)
            copy_tensor(w, vly_gguf_tensor_at(gguf, i));
        char path[512];
        snprintf(path, sizeof path, "%s-%05u-of-%05u.gguf", stem, no + 1, n_parts);
        if (gguf_writer_save(w, path)) abort();
        gguf_writer_destroy(w);
    }
}

void gguf_copy_changed(const vly_gguf *gguf, const char *path, gguf_copy_fn *change, void *arg)
{
    gguf_writer *w = gguf_writer_create(3);
    copy_entries_but(w, gguf, NULL);
    for (size_t i = 0; i < vly_gguf_n_tensors(gguf); i++) {
        const vly_gguf_tensor *t = vly_gguf_tensor_at(gguf, i);
        uint8_t *data;
        const vly_format *format = change(arg, i, t, &data);
        char *name = text_of(t->name);
        size_t n_blocks = t->dims[0] / format->block_weights;
        for (uint32_t d = 1; d < t->n_dims; d++) n_blocks *= t->dims[d];
        gguf_writer_tensor(w, name, t->n_dims, t->dims, format->ggml_id, data,
                           n_blocks * format->block_bytes);
        free(name);
        free(data);
    }
    if (gguf_writer_save(w, path)) abort();
    gguf_writer_destroy(w);
}

vly_gguf *gguf_copy_open(const char *from, gguf_copy_fn *change, void *arg)
{
    char path[] = "/tmp/volley-copy-XXXXXX";
    vly_gguf *gguf;
    vly_error err;
    int fd = mkstemp(path);
    if (fd < 0 || close(fd) || vly_gguf_open(from, &gguf, &err)) abort();
    gguf_copy_changed(gguf, path, change, arg);
    vly_gguf_close(gguf);
    if (vly_gguf_open(path, &gguf, &err) || unlink(path)) abort();
    return gguf;
}
