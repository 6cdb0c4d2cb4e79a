#include "serve/api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int vly_api_fail(vly_api_error *err, int status, const char *code, const char *param,
                 const char *format, ...)
{
    err->status = status;
    err->type = status == 401                                    ? "authentication_error"
                : status == 429                                  ? "rate_limit_error"
                : status == 503                                  ? "unavailable_error"
                : status == 504                                  ? "timeout_error"
                : status < 500 || status == 501 || status == 505 ? "invalid_request_error"
                                                                 : "server_error";
    err->code = code;
    snprintf(err->param, sizeof err->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return -1;
}

int vly_api_fail_engine(vly_api_error *err, const vly_error *cause, const char *param)
{
    switch (cause->code) {
    case VLY_E_INVALID:
    case VLY_E_UNSUPPORTED:
        return vly_api_fail(err, 400, NULL, param, "%s", cause->message);
    case VLY_E_CONTEXT:
        return vly_api_fail(err, 400, "context_length_exceeded", param, "%s", cause->message);
    case VLY_E_BUSY:
        return vly_api_fail(err, 429, "queue_full", NULL, "%s", cause->message);
    case VLY_E_HOST_MEMORY:
    case VLY_E_DEVICE_MEMORY:
        return vly_api_fail(err, 503, "out_of_memory", NULL, "%s", cause->message);
    case VLY_E_DEVICE_LOST:
        return vly_api_fail(err, 500, "device_lost", NULL, "%s", cause->message);
    default:
        return vly_api_fail(err, 500, NULL, NULL, "%s", cause->message);
    }
}

static void write_name(vly_writer *out, const char *key, const char *value)
{
    vly_writer_format(out, ",\"%s\":", key);
    if (value && value[0])
        vly_writer_bytes(out, value, strlen(value));
    else
        vly_writer_text(out, "null");
}

void vly_api_error_write(const vly_api_error *err, vly_writer *out)
{
    vly_writer_text(out, "{\"error\":{\"message\":");
    vly_writer_bytes(out, err->message, strlen(err->message));
    write_name(out, "type", err->type);
    write_name(out, "param", err->param);
    write_name(out, "code", err->code);
    vly_writer_text(out, "}}");
}
