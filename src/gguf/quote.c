#include "gguf/quote.h"

#include <stdio.h>
#include <string.h>

vly_quoted vly_quote(vly_bytes bytes)
{
    static const char cut[] = "...'";
    vly_quoted quoted;
    size_t n = 0;
    quoted.text[n++] = '\'';
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        /* An escape is 4 bytes, and the end must always fit behind it. */
        if (n + 4 + sizeof cut > sizeof quoted.text) {
            memcpy(quoted.text + n, cut, sizeof cut);
            return quoted;
        }
        if (c >= 0x20 && c < 0x7f)
            quoted.text[n++] = (char)c;
        else
            n += (size_t)snprintf(quoted.text + n, sizeof quoted.text - n, "\\x%02x", c);
    }
    quoted.text[n++] = '\'';
    quoted.text[n] = '\0';
    return quoted;
}
