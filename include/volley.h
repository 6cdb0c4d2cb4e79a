/* Volley: speculative decoding on Vulkan. The public interface. */
#ifndef VOLLEY_H
#define VOLLEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VLY_VERSION "0.1.0"

/* Codes that fallible functions return: 0 or one of these. */
typedef enum {
#define VLY_ERROR_CODE(name, value, text) name = value,
#include "base/error_codes.def"
#undef VLY_ERROR_CODE
} vly_error_code;

/* Why a call failed: filled by the callee, owned by the caller. */
typedef struct {
    int code;           /* one of vly_error_code */
    char message[1024]; /* what was expected and what came; terminated */
} vly_error;

/* The standing text of a code ("malformed file"). */
const char *vly_error_name(int code);

#endif
