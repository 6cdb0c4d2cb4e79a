/* Names from files, for messages: a file may call a tensor anything, a terminal must not see it. */
#ifndef VLY_GGUF_QUOTE_H
#define VLY_GGUF_QUOTE_H

#include "base/vec.h"

typedef struct {
    char text[100];
} vly_quoted;

/* `bytes` in single quotes, terminated; all but printable ASCII as \xNN, long ones cut with "...".
 * For use within one expression: `vly_fail(err, code, "tensor %s", vly_quote(name).text)`. */
vly_quoted vly_quote(vly_bytes bytes);

#endif
