// SPDX-License-Identifier: MIT
//
// editline.c: a line editor for the prompt, over libedit. It is a small library of its own, libmoonbow_edit, which
// bindings/editor.lua loads where it was built; the engine does not know it.
//
// Nothing here calls Lua. libedit runs key by key (EL_UNBUFFERED), and mb_edit_read returns to Lua when the line is done
// and also when TAB was pressed: Lua looks at the text before the cursor, has something inserted or a list shown, and
// calls mb_edit_read again, which goes on where it was.
//
// Ctrl-C is a key like others while a line is edited: keys make no signals then. Ctrl-Z and Ctrl-\ raise theirs here.
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

// What mb_edit_read comes back with. ORDER EDIT (bindings/editor.lua)
enum { EDIT_LINE, EDIT_TAB, EDIT_END, EDIT_INTERRUPTED };

#define NO_EVENT (-1)
#define MARK '\1' // around what takes no room in a prompt: escapes of colours

typedef struct mb_edit {
  EditLine *el;
  History *history;
  locale_t locale; // for characters of more than a byte; the process stays in its own
  char *prompt;
  char *text; // of the line, as Lua last asked for it
  int event;
  int is_open; // a line is being edited
} mb_edit;

#define MB_EDIT_API __attribute__((visibility("default")))

MB_EDIT_API mb_edit *mb_edit_new(int history_size);
MB_EDIT_API void mb_edit_free(mb_edit *edit);
MB_EDIT_API int mb_edit_read(mb_edit *edit, const char *prompt);
MB_EDIT_API const char *mb_edit_text(mb_edit *edit, int *cursor);
MB_EDIT_API void mb_edit_insert(mb_edit *edit, const char *text);
MB_EDIT_API void mb_edit_show(mb_edit *edit, const char *text);
MB_EDIT_API void mb_edit_remember(mb_edit *edit, const char *line);

// ----- keys ---------------------------------------------------------------------------------------

static mb_edit *edit_of(EditLine *el) {
  void *data = NULL;
  el_get(el, EL_CLIENTDATA, &data);
  return data;
}

static char *prompt_of(EditLine *el) { return edit_of(el)->prompt; }

static unsigned char on_tab(EditLine *el, int key) {
  (void)key;
  edit_of(el)->event = EDIT_TAB;
  return CC_NORM;
}

static unsigned char on_interrupt(EditLine *el, int key) {
  (void)key;
  const LineInfo *line = el_line(el);
  el_cursor(el, (int)(line->lastchar - line->cursor)); // bytes are at least as many as characters; it stops at the end
  edit_of(el)->event = EDIT_INTERRUPTED;
  return CC_CURSOR;
}

static unsigned char on_suspend(EditLine *el, int key) {
  (void)el, (void)key;
  raise(SIGTSTP); // libedit's handler gives the terminal back, and draws the line when the process goes on
  return CC_REDISPLAY;
}

static unsigned char on_quit(EditLine *el, int key) {
  (void)el, (void)key;
  raise(SIGQUIT);
  return CC_NORM;
}

static unsigned char on_nothing(EditLine *el, int key) {
  (void)el, (void)key;
  return CC_NORM;
}

// Ctrl-D leaves from an empty line, and deletes a character in another.
static unsigned char on_end(EditLine *el, int key) {
  (void)key;
  const LineInfo *line = el_line(el);
  if (line->lastchar == line->buffer) {
    edit_of(el)->event = EDIT_END;
    return CC_NORM;
  }
  if (line->cursor == line->lastchar) return CC_ERROR;
  el_cursor(el, 1);
  el_deletestr(el, 1);
  return CC_REFRESH;
}

// libedit has the characters U+00A0 to U+00FF for keys pressed with Alt; they are letters here, and Alt comes with escape.
static void bind_letters(EditLine *el) {
  for (unsigned code = 0xA0; code <= 0xFF; code++) {
    char letter[3] = {(char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F)), '\0'};
    el_set(el, EL_BIND, letter, "ed-insert", NULL);
  }
}

// Keys that have no meaning here, and would type the end of what the terminal sends for them: Insert, Page Up and Down, the
// function keys, with Shift, Alt and Ctrl too; and Alt-x, with which libedit asks for a command of its own.
static void bind_other_keys(EditLine *el) {
  el_set(el, EL_ADDFN, "mb-nothing", "Do nothing", on_nothing);
  for (int code = 2; code <= 34; code++) {
    char keys[24];
    if (code == 3 || code == 4 || code == 7 || code == 8) continue; // Delete, End, Home
    snprintf(keys, sizeof keys, "\\e[%d~", code);
    el_set(el, EL_BIND, keys, "mb-nothing", NULL);
    for (int with = 2; with <= 8; with++) {
      snprintf(keys, sizeof keys, "\\e[%d;%d~", code, with);
      el_set(el, EL_BIND, keys, "mb-nothing", NULL);
    }
  }
  static const char *const others[] = {"\\eOP", "\\eOQ", "\\eOR", "\\eOS", "\\ex"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) el_set(el, EL_BIND, others[i], "mb-nothing", NULL);
}

static void bind_keys(EditLine *el) {
  static const char *const keys[][2] = {
      {"^I", "mb-complete"},           {"^C", "mb-interrupt"},           {"^D", "mb-end"},
      {"^Z", "mb-suspend"},              {"^\\", "mb-quit"},
      {"^R", "em-inc-search-prev"},    {"^W", "ed-delete-prev-word"},    {"\\e[A", "ed-search-prev-history"},
      {"\\eOA", "ed-search-prev-history"}, {"\\e[B", "ed-search-next-history"}, {"\\eOB", "ed-search-next-history"},
      {"\\e[H", "ed-move-to-beg"},     {"\\eOH", "ed-move-to-beg"},      {"\\e[1~", "ed-move-to-beg"},
      {"\\e[F", "ed-move-to-end"},     {"\\eOF", "ed-move-to-end"},      {"\\e[4~", "ed-move-to-end"},
      {"\\e[3~", "ed-delete-next-char"}, {"\\e[1;5D", "ed-prev-word"},   {"\\e[1;5C", "em-next-word"},
      {"\\eb", "ed-prev-word"},        {"\\ef", "em-next-word"},         {"\\ed", "em-delete-next-word"},
  };
  el_set(el, EL_ADDFN, "mb-complete", "Complete the name before the cursor", on_tab);
  el_set(el, EL_ADDFN, "mb-interrupt", "Give the line up", on_interrupt);
  el_set(el, EL_ADDFN, "mb-suspend", "Stop the process", on_suspend);
  el_set(el, EL_ADDFN, "mb-quit", "Raise SIGQUIT", on_quit);
  el_set(el, EL_ADDFN, "mb-end", "Leave, or delete a character", on_end);
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
}

// ----- making -------------------------------------------------------------------------------------

void mb_edit_free(mb_edit *edit) {
  if (!edit) return;
  if (edit->el) el_end(edit->el);
  if (edit->history) history_end(edit->history);
  if (edit->locale) freelocale(edit->locale);
  free(edit->prompt);
  free(edit->text);
  free(edit);
}

// The environment's locale where its characters are UTF-8, as the terminal's will be in any case: libedit would take a byte
// that its locale does not know for the end of the input.
static locale_t utf8_locale(void) {
  locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
  if (locale && strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0) return locale;
  locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  if (!utf8) return locale;
  if (locale) freelocale(locale);
  return utf8;
}

// An editor on standard input and output, or NULL.
mb_edit *mb_edit_new(int history_size) {
  mb_edit *edit = calloc(1, sizeof *edit);
  if (!edit) return NULL;
  edit->locale = utf8_locale();
  edit->history = history_init();
  edit->el = el_init("moonbow", stdin, stdout, stderr);
  if (!edit->locale || !edit->history || !edit->el) {
    mb_edit_free(edit);
    return NULL;
  }
  HistEvent event;
  history(edit->history, &event, H_SETSIZE, history_size);
  history(edit->history, &event, H_SETUNIQUE, 1);
  el_set(edit->el, EL_CLIENTDATA, edit);
  el_set(edit->el, EL_PROMPT_ESC, prompt_of, MARK);
  el_set(edit->el, EL_HIST, history, edit->history);
  el_set(edit->el, EL_EDITOR, "emacs");
  el_set(edit->el, EL_SIGNAL, 1); // a stop and a change of size draw the line anew
  locale_t before = uselocale(edit->locale);
  bind_letters(edit->el);
  bind_other_keys(edit->el);
  bind_keys(edit->el);
  el_source(edit->el, NULL); // ~/.editrc
  el_set(edit->el, EL_SETTY, "-d", "-isig", NULL);
  uselocale(before);
  return edit;
}

static int copy(char **to, const char *from, size_t length) {
  char *text = realloc(*to, length + 1);
  if (!text) return 0;
  memcpy(text, from, length);
  text[length] = '\0';
  *to = text;
  return 1;
}

// ----- reading ------------------------------------------------------------------------------------

// Is there nothing more to read? libedit says -1 of an empty line after every key, and of an input that is gone: a terminal
// that hung up, one that may not be read any more (errno), and one that is readable without a byte.
static int input_is_gone(int problem) {
  if (problem == EIO || problem == EBADF || problem == ENXIO) return 1;
  struct pollfd input = {.fd = fileno(stdin), .events = POLLIN};
  if (poll(&input, 1, 0) <= 0) return 0;
  int n_waiting = 0;
  return (input.revents & (POLLHUP | POLLERR | POLLNVAL)) || (ioctl(input.fd, FIONREAD, &n_waiting) == 0 && n_waiting == 0);
}

// Keys until something is there for Lua.
static int read_keys(mb_edit *edit) {
  for (;;) {
    int n = 0;
    edit->event = NO_EVENT;
    errno = 0;
    const char *line = el_gets(edit->el, &n);
    int problem = errno;
    if (edit->event != NO_EVENT) return edit->event;
    if (line && n > 0 && line[n - 1] == '\n') return EDIT_LINE;
    if (line) continue;
    if (n == 0 || input_is_gone(problem)) return EDIT_END; // 0: a key that ~/.editrc has for the end of the input
  }
}

// Shows the prompt and edits a line, or goes on with the one that TAB was pressed in. What happened, ORDER EDIT.
int mb_edit_read(mb_edit *edit, const char *prompt) {
  locale_t before = uselocale(edit->locale);
  if (!edit->is_open) {
    if (!copy(&edit->prompt, prompt, strlen(prompt))) return EDIT_END;
    el_set(edit->el, EL_UNBUFFERED, 1);
    edit->is_open = 1;
  }
  // SIGTERM and SIGHUP end the process here, where nothing is under way.
  struct sigaction end = {.sa_handler = SIG_DFL}, terminate, hangup;
  sigaction(SIGTERM, &end, &terminate);
  sigaction(SIGHUP, NULL, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &end, NULL);
  int event = read_keys(edit);
  sigaction(SIGTERM, &terminate, NULL);
  sigaction(SIGHUP, &hangup, NULL);
  if (event != EDIT_TAB) {
    const LineInfo *line = el_line(edit->el);
    size_t length = (size_t)(line->lastchar - line->buffer);
    if (event != EDIT_LINE || !copy(&edit->text, line->buffer, length - 1)) copy(&edit->text, "", 0);
    el_set(edit->el, EL_UNBUFFERED, 0);
    edit->is_open = 0;
    if (event == EDIT_INTERRUPTED) fputs("^C\n", stdout);
    if (event == EDIT_END) fputs("\n", stdout);
    fflush(stdout);
  }
  uselocale(before);
  return event;
}

// The line, and in *cursor how many of its bytes are before the cursor. Valid until the next call.
const char *mb_edit_text(mb_edit *edit, int *cursor) {
  if (edit->is_open) {
    locale_t before = uselocale(edit->locale);
    const LineInfo *line = el_line(edit->el);
    *cursor = (int)(line->cursor - line->buffer);
    if (!copy(&edit->text, line->buffer, (size_t)(line->lastchar - line->buffer))) *cursor = 0;
    uselocale(before);
  } else {
    *cursor = edit->text ? (int)strlen(edit->text) : 0;
  }
  return edit->text ? edit->text : "";
}

// Types text at the cursor: the next mb_edit_read finds it as if from the keyboard.
void mb_edit_insert(mb_edit *edit, const char *text) {
  locale_t before = uselocale(edit->locale);
  el_push(edit->el, text);
  uselocale(before);
}

// Shows text below the line, and the line again below that.
void mb_edit_show(mb_edit *edit, const char *text) {
  locale_t before = uselocale(edit->locale);
  fputs("\r\n\033[J", stdout);
  for (const char *at = text; *at; at++) {
    if (*at == '\n') fputc('\r', stdout);
    fputc(*at, stdout);
  }
  fputs("\r\n", stdout);
  fflush(stdout);
  el_set(edit->el, EL_REFRESH);
  uselocale(before);
}

// Adds a line to those that the arrow keys bring back.
void mb_edit_remember(mb_edit *edit, const char *line) {
  locale_t before = uselocale(edit->locale);
  HistEvent event;
  history(edit->history, &event, H_ENTER, line);
  uselocale(before);
}
