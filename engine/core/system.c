// SPDX-License-Identifier: MIT
//
// system.c: what scripts ask of the process itself: a clock, its memory, its terminal, and the signals
// that ask it to stop. A signal only sets a flag, which the training loop reads between steps; nothing
// is interrupted half-way.
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "moonbow.h"

double mb_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int64_t mb_peak_rss(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

int64_t mb_process_id(void) { return getpid(); }

int mb_is_terminal(int fd) { return isatty(fd); }

int mb_terminal_width(int fd) {
  struct winsize size;
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// ----- signals ------------------------------------------------------------------------------------

static volatile sig_atomic_t received;        // signal number, 0 = none
static volatile sig_atomic_t stderr_terminal; // known before a handler runs, where isatty is not allowed
static volatile sig_atomic_t patient;         // SIGINTs after the first are not the end
static volatile sig_atomic_t more;            // how many of those came

static void on_signal(int number) {
  if (received && number == SIGINT && patient) {
    static const char hint[] = "\n(still at work; Ctrl-\\ ends the process)\n";
    more = more + 1;
    ssize_t ignored = more == 2 && stderr_terminal ? write(STDERR_FILENO, hint, sizeof hint - 1) : 0;
    (void)ignored;
    return;
  }
  if (received && number == SIGINT) {
    // The live progress line has no line break and may have hidden the cursor: leave a clean terminal.
    static const char restore[] = "\033[?25h\n";
    ssize_t ignored = stderr_terminal ? write(STDERR_FILENO, restore, sizeof restore - 1) : 0;
    (void)ignored;
    _exit(130);
  }
  // The reader of what a process prints goes with its terminal, and printing to nobody must not end it before it has saved.
  if (number == SIGHUP) signal(SIGPIPE, SIG_IGN);
  received = number;
}

void mb_interrupt_install(void) {
  stderr_terminal = isatty(STDERR_FILENO);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}; // half-done writes go on
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  struct sigaction before; // under nohup a hangup is ignored, and stays so
  if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, NULL);
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  sigaction(SIGXFSZ, &ignore, NULL);
}

void mb_interrupt_patient(int on) { patient = on != 0; }
int mb_interrupted(void) { return received; }
void mb_interrupt_clear(void) {
  received = 0;
  more = 0;
}
