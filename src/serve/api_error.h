/* Errors as clients of OpenAI's API know them. */
#ifndef VLY_SERVE_API_ERROR_H
#define VLY_SERVE_API_ERROR_H

#include "base/error.h"
#include "serve/writer.h"

typedef struct {
    int status;       /* of HTTP */
    const char *type; /* "invalid_request_error"; static */
    const char *code; /* static, or NULL */
    char param[64];   /* the field that is wrong; "" where it is none */
    char message[1024];
} vly_api_error;

/* Fills `err`; returns -1. */
int vly_api_fail(vly_api_error *err, int status, const char *code, const char *param,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

/* What an error of the engine is to a client whose prompt was in the field `param`. Returns -1. */
int vly_api_fail_engine(vly_api_error *err, const vly_error *cause, const char *param);

/* {"error":{"message","type","param","code"}} */
void vly_api_error_write(const vly_api_error *err, vly_writer *out);

#endif
