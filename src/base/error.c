#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int vly_fail(vly_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

int vly_fail_within(vly_error *err, const char *format, ...)
{
    if (!err) return VLY_E_INVALID;
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    /* What does not fit is cut, as in vly_fail. */
    if (n >= 0 && (size_t)n + sizeof ": " < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %.*s",
                 (int)(sizeof err->message - sizeof ": ") - n, old);
    return err->code;
}

const char *vly_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

const char *vly_error_name(int code)
{
    switch (code) {
#define VLY_ERROR_CODE(name, value, text)                                                          \
    case value:                                                                                    \
        return text;
#include "base/error_codes.def"
#undef VLY_ERROR_CODE
    }
    return "unknown error";
}
