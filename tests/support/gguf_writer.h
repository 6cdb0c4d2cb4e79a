/* Writes GGUF images for tests: whatever is asked, sound or not (a key twice, a wrong shape). What
 * it is given is copied. Running out of memory aborts the test. */
#ifndef TESTS_GGUF_WRITER_H
#define TESTS_GGUF_WRITER_H

#include "base/vec.h"
#include "gguf/formats.h"
#include "gguf/gguf.h"

typedef struct gguf_writer gguf_writer;

gguf_writer *gguf_writer_create(uint32_t version);
void gguf_writer_destroy(gguf_writer *writer);

/* Metadata. `type` of the first two is any integer type or BOOL, of the third F32 or F64. */
void gguf_writer_unsigned(gguf_writer *writer, const char *key, vly_gguf_type type, uint64_t value);
void gguf_writer_signed(gguf_writer *writer, const char *key, vly_gguf_type type, int64_t value);
void gguf_writer_float(gguf_writer *writer, const char *key, vly_gguf_type type, double value);
void gguf_writer_u32(gguf_writer *writer, const char *key, uint32_t value);
void gguf_writer_f32(gguf_writer *writer, const char *key, float value);
void gguf_writer_bool(gguf_writer *writer, const char *key, bool value);
void gguf_writer_string(gguf_writer *writer, const char *key, const char *text);
/* An array of `n` numbers, given as the file holds them: packed and little-endian. */
void gguf_writer_numbers(gguf_writer *writer, const char *key, vly_gguf_type item_type,
                         const void *items, uint64_t n);
void gguf_writer_strings(gguf_writer *writer, const char *key, const vly_bytes *items, uint64_t n);
/* An entry with any type number, and `n` bytes of value as they are. */
void gguf_writer_raw(gguf_writer *writer, const char *key, uint32_t type, const void *value,
                     size_t n);

/* Writes general.alignment and places data by it (else by 32). Before the first tensor. */
void gguf_writer_alignment(gguf_writer *writer, uint32_t alignment);

/* Adds a tensor of `dims`[n_dims], contiguous one first, with its `n_bytes` of data: places it
 * behind the one before, aligned. The shape need not go with the bytes. */
void gguf_writer_tensor(gguf_writer *writer, const char *name, uint32_t n_dims,
                        const uint64_t *dims, uint32_t ggml_id, const void *data, size_t n_bytes);
/* The same with another offset than the one it should have, and no data. */
void gguf_writer_tensor_at(gguf_writer *writer, const char *name, uint32_t n_dims,
                           const uint64_t *dims, uint32_t ggml_id, uint64_t offset);

/* The whole image, to be freed by the caller. May be asked for more than once. */
uint8_t *gguf_writer_image(const gguf_writer *writer, size_t *n);
/* Writes the image to a file; 0 or -1. */
int gguf_writer_save(const gguf_writer *writer, const char *path);

#endif
