/* JSON texts whose strings may hold U+0000, at which cJSON's strings end. */
#ifndef VLY_TEXT_JSON_H
#define VLY_TEXT_JSON_H

#include "base/error.h"
#include "base/vec.h"

#include <cjson/cJSON.h>

/* Parses `len` bytes that hold one JSON value and white space. Within it cJSON's strings have the
 * byte FF, which no UTF-8 has, for U+0000: read strings that may have one with vly_json_string. The
 * caller owns *out (cJSON_Delete). Errors: VLY_E_FORMAT (not UTF-8, not JSON, more than one value;
 * says at which byte), VLY_E_HOST_MEMORY. */
int vly_json_parse(const char *text, size_t len, cJSON **out, vly_error *err);

/* Appends the string value of `item`, U+0000 as a zero byte. 0 or VLY_E_HOST_MEMORY. */
int vly_json_string(const cJSON *item, vly_text *out);

/* Appends `bytes` as a JSON string, quotes included. Bytes that are no UTF-8 come out as U+FFFD. 0
 * or VLY_E_HOST_MEMORY. */
int vly_json_quote(vly_bytes bytes, vly_text *out);

#endif
