#include "tests/support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gguf_writer {
    uint32_t version, alignment;
    uint64_t n_entries, n_tensors;
    vly_text entries, directory, data;
};

static void put(vly_text *to, const void *bytes, size_t n)
{
    if (vly_text_append(to, bytes, n)) abort();
}

static void put_number(vly_text *to, uint64_t value, unsigned n_bytes)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < n_bytes; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    put(to, bytes, n_bytes);
}

static void put_string(vly_text *to, const char *data, size_t n)
{
    put_number(to, n, 8);
    put(to, data, n);
}

static void pad(vly_text *to, uint32_t alignment)
{
    while (to->len % alignment) put(to, "", 1);
}

gguf_writer *gguf_writer_create(uint32_t version)
{
    gguf_writer *writer = calloc(1, sizeof *writer);
    if (!writer) abort();
    writer->version = version;
    writer->alignment = 32;
    return writer;
}

void gguf_writer_destroy(gguf_writer *writer)
{
    vly_text_free(&writer->entries);
    vly_text_free(&writer->directory);
    vly_text_free(&writer->data);
    free(writer);
}

void gguf_writer_raw(gguf_writer *writer, const char *key, uint32_t type, const void *value,
                     size_t n)
{
    put_string(&writer->entries, key, strlen(key));
    put_number(&writer->entries, type, 4);
    put(&writer->entries, value, n);
    writer->n_entries++;
}

static unsigned bytes_of(vly_gguf_type type)
{
    switch (type) {
    case VLY_GGUF_U8:
    case VLY_GGUF_I8:
    case VLY_GGUF_BOOL:
        return 1;
    case VLY_GGUF_U16:
    case VLY_GGUF_I16:
        return 2;
    case VLY_GGUF_U32:
    case VLY_GGUF_I32:
    case VLY_GGUF_F32:
        return 4;
    case VLY_GGUF_U64:
    case VLY_GGUF_I64:
    case VLY_GGUF_F64:
        return 8;
    default:
        abort();
    }
}

void gguf_writer_unsigned(gguf_writer *writer, const char *key, vly_gguf_type type, uint64_t value)
{
    gguf_writer_raw(writer, key, type, NULL, 0);
    put_number(&writer->entries, value, bytes_of(type));
}

void gguf_writer_signed(gguf_writer *writer, const char *key, vly_gguf_type type, int64_t value)
{
    gguf_writer_unsigned(writer, key, type, (uint64_t)value);
}

void gguf_writer_float(gguf_writer *writer, const char *key, vly_gguf_type type, double value)
{
    float value32 = (float)value;
    uint32_t bits32;
    uint64_t bits;
    memcpy(&bits32, &value32, sizeof bits32);
    memcpy(&bits, &value, sizeof bits);
    gguf_writer_unsigned(writer, key, type, type == VLY_GGUF_F32 ? bits32 : bits);
}

void gguf_writer_u32(gguf_writer *writer, const char *key, uint32_t value)
{
    gguf_writer_unsigned(writer, key, VLY_GGUF_U32, value);
}

void gguf_writer_f32(gguf_writer *writer, const char *key, float value)
{
    gguf_writer_float(writer, key, VLY_GGUF_F32, (double)value);
}

void gguf_writer_bool(gguf_writer *writer, const char *key, bool value)
{
    gguf_writer_unsigned(writer, key, VLY_GGUF_BOOL, value);
}

void gguf_writer_string(gguf_writer *writer, const char *key, const char *text)
{
    gguf_writer_raw(writer, key, VLY_GGUF_STRING, NULL, 0);
    put_string(&writer->entries, text, strlen(text));
}

static void begin_array(gguf_writer *writer, const char *key, vly_gguf_type item_type, uint64_t n)
{
    gguf_writer_raw(writer, key, VLY_GGUF_ARRAY, NULL, 0);
    put_number(&writer->entries, item_type, 4);
    put_number(&writer->entries, n, 8);
}

void gguf_writer_numbers(gguf_writer *writer, const char *key, vly_gguf_type item_type,
                         const void *items, uint64_t n)
{
    begin_array(writer, key, item_type, n);
    put(&writer->entries, items, n * bytes_of(item_type));
}

void gguf_writer_strings(gguf_writer *writer, const char *key, const vly_bytes *items, uint64_t n)
{
    begin_array(writer, key, VLY_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_string(&writer->entries, items[i].data, items[i].len);
}

void gguf_writer_alignment(gguf_writer *writer, uint32_t alignment)
{
    gguf_writer_u32(writer, "general.alignment", alignment);
    writer->alignment = alignment;
}

void gguf_writer_tensor_at(gguf_writer *writer, const char *name, uint32_t n_dims,
                           const uint64_t *dims, uint32_t ggml_id, uint64_t offset)
{
    put_string(&writer->directory, name, strlen(name));
    put_number(&writer->directory, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++) put_number(&writer->directory, dims[i], 8);
    put_number(&writer->directory, ggml_id, 4);
    put_number(&writer->directory, offset, 8);
    writer->n_tensors++;
}

void gguf_writer_tensor(gguf_writer *writer, const char *name, uint32_t n_dims,
                        const uint64_t *dims, uint32_t ggml_id, const void *data, size_t n_bytes)
{
    pad(&writer->data, writer->alignment);
    gguf_writer_tensor_at(writer, name, n_dims, dims, ggml_id, writer->data.len);
    put(&writer->data, data, n_bytes);
}

uint8_t *gguf_writer_image(const gguf_writer *writer, size_t *n)
{
    vly_text image = {0};
    put(&image, "GGUF", 4);
    put_number(&image, writer->version, 4);
    put_number(&image, writer->n_tensors, 8);
    put_number(&image, writer->n_entries, 8);
    put(&image, writer->entries.data, writer->entries.len);
    put(&image, writer->directory.data, writer->directory.len);
    if (writer->n_tensors) pad(&image, writer->alignment);
    put(&image, writer->data.data, writer->data.len);
    *n = image.len;
    return (uint8_t *)image.data;
}

int gguf_writer_save(const gguf_writer *writer, const char *path)
{
    size_t n;
    uint8_t *image = gguf_writer_image(writer, &n);
    FILE *file = fopen(path, "wb");
    int rc = file && fwrite(image, 1, n, file) == n ? 0 : -1;
    if (file && fclose(file) != 0) rc = -1;
    free(image);
    return rc;
}
