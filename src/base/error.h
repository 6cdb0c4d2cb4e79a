/* Errors: one convention for every folder. A fallible function returns 0 or a code of
 * error_codes.def and, where it fails, has filled a vly_error with what was expected and what came.
 */
#ifndef VLY_BASE_ERROR_H
#define VLY_BASE_ERROR_H

#include "volley.h"

/* Fills `err` (may be NULL) with `code` and a printf-style message, cut at its capacity; returns
 * `code`, so that `return vly_fail(err, VLY_E_IO, ...)` is the whole of failing. */
int vly_fail(vly_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message that `err` already holds; returns err->code. */
int vly_fail_within(vly_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a count in a message puts behind its noun: "s", or "" for 1. */
const char *vly_plural(uint64_t n);

#endif
