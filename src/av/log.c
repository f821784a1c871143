/* The one thing that Rust cannot do: take a va_list. Formats what libav logs and hands it on as plain text. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Declared here and not included, so that no include path is needed: both have been the same since 2011, and AVClass
   begins with these two members (libavutil/log.h). */
void av_log_set_callback(void (*callback)(void *, int, const char *, va_list));
int av_log_get_level(void);

struct class_head {
    const char *class_name;
    const char *(*item_name)(void *);
};

typedef void (*line_sink)(const char *class_name, int level, const char *text);

enum { LEVEL_MASK = 0xff, WARNING = 24, LONGEST = 2048 };

typedef void (*object_sink)(void *object);

static line_sink sink;
static object_sink concealed;

static void on_log(void *object, int level, const char *format, va_list arguments)
{
    const struct class_head *head = object ? *(const struct class_head **)object : NULL;
    const char *name = head && head->item_name ? head->item_name(object) : NULL;
    char text[LONGEST];

    /* libavcodec's error_resilience.c, of a picture that was not whole; at a level that is rarely let through. */
    if (object && !strncmp(format, "concealing ", 11))
        concealed(object);
    level &= LEVEL_MASK;
    /* Warnings and errors always pass: error messages quote them. */
    if (level > WARNING && level > av_log_get_level())
        return;
    vsnprintf(text, sizeof(text), format, arguments);
    sink(name ? name : "", level, text);
}

void repass_log_capture(line_sink to, object_sink of_concealed)
{
    sink = to;
    concealed = of_concealed;
    av_log_set_callback(on_log);
}
