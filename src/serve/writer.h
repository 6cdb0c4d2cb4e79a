/* Text made piece by piece. What fails for want of memory is remembered until the text is asked
 * for, so that the pieces need no checks. Zero-initialise; free `text`. */
#ifndef VLY_SERVE_WRITER_H
#define VLY_SERVE_WRITER_H

#include "base/vec.h"

#include <stdbool.h>

typedef struct {
    vly_text text;
    bool failed; /* something is missing from the text */
} vly_writer;

void vly_writer_put(vly_writer *writer, const void *data, size_t n);
void vly_writer_text(vly_writer *writer, const char *text);
void vly_writer_format(vly_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A JSON string, quotes included, of `n` bytes that are UTF-8. */
void vly_writer_string(vly_writer *writer, const char *data, size_t n);
/* The same without the quotes. */
void vly_writer_escaped(vly_writer *writer, const char *data, size_t n);

/* A JSON string of any bytes: those that are no UTF-8 become U+FFFD. */
void vly_writer_bytes(vly_writer *writer, const char *data, size_t n);

/* A JSON number with `decimals` digits after the point; null for what is not finite. */
void vly_writer_real(vly_writer *writer, double value, int decimals);

/* Forgets the text and keeps its memory. */
void vly_writer_clear(vly_writer *writer);

#endif
