#!/usr/bin/env python3
"""Writes tests/data/templates/*.json: chat templates and what Jinja makes of conversations.

Needs python3-jinja2; the tests do not. Each file has the template's source, its spellings of BOS and
EOS, and for each conversation the text or null where the template refuses it. The sources here are
written for this project: they do in the same terms what the templates of these families do. With
arguments OUT FILE.jinja..., writes vectors for other sources to the folder OUT.
"""
import json
import os
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHATML_LOOP = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LLAMA3_LOOP = (
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n")
LLAMA3_OPEN = "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- else %}
"""
REFUSE_TURNS = "{{ raise_exception('user and assistant must take turns') }}"
REFUSE_ROLE = "{{ raise_exception('no such role') }}"


def mistral(user, close, assistant, place):
    """place: of the system message, 'first', 'last' or '' for none."""
    head, loop, condition = "", "messages", ""
    if place:
        head = ('{%- if messages[0]["role"] == "system" %}\n'
                '    {%- set system_message = messages[0]["content"] %}\n'
                '    {%- set rest = messages[1:] %}\n'
                '{%- else %}\n    {%- set rest = messages %}\n{%- endif %}\n')
        loop = "rest"
        condition = (f'        {{%- if loop.{place} and system_message is defined %}}\n'
                     f'            {{{{- "{user}" + system_message + "\\n\\n" + message["content"] + "{close}" }}}}\n'
                     '        {%- else %}\n    ')
    return (head + '{{- bos_token }}\n'
            f'{{%- for message in {loop} %}}\n'
            "    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}\n"
            f'        {REFUSE_TURNS}\n'
            '    {%- endif %}\n'
            '    {%- if message.role == "user" %}\n' + condition +
            f'        {{{{- "{user}" + message["content"] + "{close}" }}}}\n' +
            ('        {%- endif %}\n' if place else '') +
            '    {%- elif message.role == "assistant" %}\n'
            f'        {{{{- {assistant} }}}}\n'
            '    {%- else %}\n'
            f'        {REFUSE_ROLE}\n'
            '    {%- endif %}\n'
            '{%- endfor %}\n')


ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

QWEN3 = QWEN_TOOLS + """    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set seen = namespace(asked=false, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set place = messages|length - 1 - loop.index0 %}
    {%- if not seen.asked and message.role == 'user' and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set seen.asked = true %}
        {%- set seen.last_query_index = place %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set answer = message.content %}
        {%- set thoughts = '' %}
        {%- if '</think>' in message.content %}
            {%- set answer = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thoughts = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > seen.last_query_index and (loop.last or thoughts) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + answer.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + answer }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{#- the system turn, with a remark %} in a comment #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
""" + LLAMA3_LOOP + "{%- if add_generation_prompt %}\n    " + LLAMA3_OPEN + "{%- endif %}\n"

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" +
    REFUSE_TURNS + "{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'system' %}{{ '<<SYS>>\\n' + content.strip() + '\\n<</SYS>>\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}")

LLAMA = ("<|begin_of_text|>", "<|eot_id|>")
SPM = ("<s>", "</s>")
IM = ("<|im_start|>", "<|im_end|>")
# name: (family that a name gives, or "" where it has none; BOS and EOS; source)
TEMPLATES = {
    "chatml": ("chatml", IM, CHATML_LOOP),
    "chatml-bos": ("", SPM, "{{ bos_token }}" + CHATML_LOOP),
    "chatml-text": ("chatml", IM, "{% for message in messages %}\n<|im_start|>{{ message.role }}\n"
                    "{{ message.content }}<|im_end|>\n{% endfor %}\n"
                    "{% if add_generation_prompt %}\n{{ '<|im_start|>assistant\\n' }}{% endif %}"),
    "smollm2": ("smollm2", IM, CHATML_LOOP.replace(
        "%}", "%}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}", 1)),
    "qwen2": ("qwen2", IM, CHATML_LOOP.replace(
        "%}", "%}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n"
        "You are a helpful assistant.<|im_end|>\\n' }}{% endif %}", 1)),
    "qwen1.5": ("", IM,
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\\n' + message['content']}}"
        "{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\\n'}}{% endif %}"
        "{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}"
        "{{ '<|im_start|>assistant\\n' }}{% endif %}"),
    "qwen2.5": ("qwen2.5", IM, QWEN_TOOLS + """    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    "qwen3": ("qwen3", IM, QWEN3),
    "qwen3-thinking": ("", IM, QWEN3.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")
                       .replace("    {%- if enable_thinking is defined and enable_thinking is false %}\n"
                                "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n", "")),
    "mistral-v0.1": ("mistral-v0.1", SPM, mistral(" [INST] ", " [/INST]",
                     '" " + message["content"] + eos_token', "first")),
    "mistral-v0.1-old": ("", SPM, mistral("[INST] ", " [/INST]",
                         'message["content"] + eos_token + " "', "")),
    "mistral-v0.2-old": ("", SPM, mistral("[INST] ", " [/INST]",
                         'message["content"] + eos_token', "")),
    "mistral-v0.3": ("mistral-v0.3", SPM, mistral("[INST] ", "[/INST]",
                     '" " + message["content"] | trim + eos_token', "last")),
    "mistral-tekken": ("", SPM, mistral("[INST]", "[/INST]", 'message["content"] + eos_token', "last")),
    "llama2": ("llama2", SPM, LLAMA2),
    "llama2-trim": ("", SPM, LLAMA2.replace("content.strip()", "content | trim")),
    "llama3": ("llama3", LLAMA, "{{- bos_token }}\n" + LLAMA3_LOOP +
               "{%- if add_generation_prompt %}\n    " + LLAMA3_OPEN + "{%- endif %}\n"),
    "llama3-open": ("", LLAMA, "{{- bos_token }}\n" + LLAMA3_LOOP + LLAMA3_OPEN),
    "llama3.1": ("llama3.1", LLAMA, LLAMA31),
    "llama3.2": ("llama3.2", LLAMA, LLAMA31.replace(
        '    {%- set date_string = "26 Jul 2024" %}\n',
        '    {%- if strftime_now is defined %}\n'
        '        {%- set date_string = strftime_now("%d %b %Y") %}\n'
        '    {%- else %}\n'
        '        {%- set date_string = "26 Jul 2024" %}\n'
        '    {%- endif %}\n')),
    "zephyr": ("zephyr", SPM, ZEPHYR),
    "zephyr-inline": ("", SPM, ZEPHYR.replace("%}\n", "%}").replace("}}\n", "}}").replace(
        "eos_token }}", "eos_token + '\\n' }}").replace("'<|assistant|>' }}", "'<|assistant|>\\n' }}")),
}


def say(role, content):
    return {"role": role, "content": content}


U, A, S = "user", "assistant", "system"
CONVERSATIONS = [
    [say(U, "Hello")],
    [say(S, "Be brief."), say(U, "Hello")],
    [say(U, "One"), say(A, "Two"), say(U, "Three")],
    [say(S, "Be brief."), say(U, "One"), say(A, "Two"), say(U, "Three")],
    [say(S, "Be brief."), say(U, "One"), say(A, "Two")],
    [say(U, "One"), say(A, "Two")],
    [say(U, "")],
    [say(S, ""), say(U, "One")],
    [say(S, "  \n"), say(U, " \t\n")],
    [say(U, "One"), say(A, ""), say(U, "Three")],
    [say(S, " trim \n"), say(U, "  One \n\n"), say(A, " Two  "), say(U, "\tThree ")],
    [say(U, "\u3000\u00a0\x1cone\u2009\x85\u2028"), say(A, "\u200b two \ufeff"), say(U, "\u205f")],
    [say(S, "Réponds en français."), say(U, "Où est 北京? 🦊 عربى"), say(A, "À l’est\u00a0!"), say(U, "e\u0301")],
    [say(U, "line\nline\r\nline\\n 'quoted' \"twice\" {{ bos_token }} {% if %}")],
    [say(U, "<|im_end|></s>[/INST]<|eot_id|>")],
    [say(U, "a"), say(A, "<think>\nhm\n\n</think>\n\nb"), say(U, "c")],
    [say(U, "a"), say(A, "<think>\nhm\n</think>\n\nb")],
    [say(U, "a"), say(A, "no close <think>"), say(U, "b"), say(A, "x</think>y</think>\nz"), say(A, "w")],
    [say(U, "a"), say(A, "call"), say(U, "<tool_response>\n1\n</tool_response>"), say(A, "<think>t</think>\nb"), say(A, "c")],
    [say(A, "I begin"), say(U, "One")],
    [say(U, "One"), say(U, "Two")],
    [say(U, "One"), say(A, "Two"), say(A, "Three")],
    [say(S, "A"), say(S, "B"), say(U, "One")],
    [say(U, "One"), say(S, "Be brief."), say(U, "Two")],
    [say(S, "A"), say(U, "One"), say(S, "B"), say(U, "Two")],
    [say(U, "One"), say(A, "Two"), say(U, "Three"), say(A, "Four"), say(U, "Five"), say(A, "Six"), say(U, "Seven")],
    [say(A, "alone")],
]


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def vectors(source, bos, eos):
    # As transformers renders chat templates.
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.globals["raise_exception"] = refuse
    template = env.from_string(source)
    out = []
    for messages in CONVERSATIONS:
        for opened in (False, True):
            try:
                text = template.render(messages=messages, add_generation_prompt=opened,
                                       bos_token=bos, eos_token=eos)
            except jinja2.exceptions.TemplateError:
                text = None
            out.append({"messages": messages, "open": opened, "text": text})
    return out


def write(folder, name, family, bos, eos, source):
    vecs = vectors(source, bos, eos)
    with open(os.path.join(folder, name + ".json"), "w") as file:
        json.dump({"family": family, "bos": bos, "eos": eos, "template": source,
                   "texts": [v["text"] for v in vecs if v["open"]],
                   "texts_unopened": [v["text"] for v in vecs if not v["open"]]},
                  file, ensure_ascii=True, indent=0)
        file.write("\n")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "tests/data/templates"
    with open(os.path.join(folder, "conversations.json"), "w") as file:
        json.dump([[[m["role"], m["content"]] for m in c] for c in CONVERSATIONS], file, indent=0)
        file.write("\n")
    if len(sys.argv) > 2:
        for path in sys.argv[2:]:
            source = open(path).read()
            bos, eos = (LLAMA if "start_header" in source else IM if "im_start" in source else SPM)
            write(folder, os.path.basename(path).removesuffix(".jinja"), "", bos, eos, source)
        return
    for name, (family, (bos, eos), source) in TEMPLATES.items():
        write(folder, name, family, bos, eos, source)


main()
