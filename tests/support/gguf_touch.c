#include "tests/support/gguf_touch.h"

static uint64_t touch_bytes(vly_bytes bytes)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes.len; i++) sum += (uint8_t)bytes.data[i];
    return sum;
}

static uint64_t touch_array(const vly_gguf *gguf, const vly_gguf_entry *array)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < array->count; i++) {
        if (array->item_type == VLY_GGUF_STRING)
            sum += touch_bytes(vly_gguf_string_at(gguf, array, i));
        else if (array->item_type == VLY_GGUF_F32 || array->item_type == VLY_GGUF_F64)
            sum += vly_gguf_float_at(array, i) > 0;
        else
            sum += (uint64_t)vly_gguf_int_at(array, i);
    }
    return sum;
}

static uint64_t touch_typed(const vly_gguf *gguf, const char *key)
{
    uint32_t number = 0;
    float real = 0;
    bool flag = false;
    vly_bytes text = {0};
    uint64_t sum = vly_gguf_u32(gguf, key, &number, NULL) == 0;
    sum += vly_gguf_f32(gguf, key, &real, NULL) == 0;
    sum += vly_gguf_bool_or(gguf, key, true, &flag, NULL) == 0;
    sum += vly_gguf_string(gguf, key, &text, NULL) == 0;
    return sum + number + (real > 0) + flag + touch_bytes(text);
}

uint64_t gguf_touch(const vly_gguf *gguf)
{
    uint64_t sum = vly_gguf_version(gguf) + vly_gguf_file_bytes(gguf);
    for (size_t i = 0; i < vly_gguf_n_entries(gguf); i++) {
        const vly_gguf_entry *entry = vly_gguf_entry_at(gguf, i);
        sum += touch_bytes(entry->key);
        if (entry->type == VLY_GGUF_STRING) sum += touch_bytes(entry->value.string);
        if (entry->type == VLY_GGUF_ARRAY) sum += touch_array(gguf, entry);
    }
    static const char *const keys[] = {"general.architecture", "general.alignment", "a", "u32"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) sum += touch_typed(gguf, keys[i]);
    for (size_t i = 0; i < vly_gguf_n_tensors(gguf); i++) {
        const vly_gguf_tensor *tensor = vly_gguf_tensor_at(gguf, i);
        sum += touch_bytes(tensor->name) + tensor->data[0] + tensor->data[tensor->n_bytes - 1];
    }
    return sum + (vly_gguf_tensor_find(gguf, "t") != NULL);
}
