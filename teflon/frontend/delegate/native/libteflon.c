/* libteflon.so: the TFLite external delegate that any program can load.
 *
 * It finds the Python interpreter of the process or starts one, imports our extension module, and
 * passes all calls to that. It is not linked against Python: it finds Python's functions by name,
 * so that programs without Python can load it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "python_facts.h" /* PYTHON_VERSION, PYTHON_EXECUTABLE, PYTHON_LIBRARY, PYTHON_SONAME */
#include "tflite_abi.h"

#define EXPORT __attribute__((visibility("default")))
#define TEXT 4096

/* The part of Python's stable interface that is used here; opaque types. */
static struct {
  int (*Py_IsInitialized)(void);
  void (*Py_InitializeEx)(int);
  const char *(*Py_GetVersion)(void);
  void (*Py_SetProgramName)(const wchar_t *);
  wchar_t *(*Py_DecodeLocale)(const char *, size_t *);
  int (*PyGILState_Ensure)(void);
  void (*PyGILState_Release)(int);
  void *(*PyEval_SaveThread)(void);
  void *(*PyImport_AddModule)(const char *);
  void *(*PyRun_String)(const char *, int, void *, void *);
  void *(*PyCapsule_Import)(const char *, int);
  void *(*PyDict_GetItemString)(void *, const char *);
  void *(*PyDict_New)(void);
  const char *(*PyUnicode_AsUTF8AndSize)(void *, long *);
  void *(*PyUnicode_FromString)(const char *);
  int (*PyDict_SetItemString)(void *, const char *, void *);
  void (*PyErr_Clear)(void);
  void (*Py_DecRef)(void *);
} py;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const TeflonEntry *entry; /* set once */
static pid_t started_in;         /* the process in which we started Python; 0: we did not */

enum { FILE_INPUT = 257 }; /* Py_file_input */

/* A fork copies a lock that another thread holds, but not the thread. */
static void unlock_child(void) { pthread_mutex_init(&lock, NULL); }

__attribute__((constructor)) static void watch_forks(void) {
  pthread_atfork(NULL, NULL, unlock_child);
}

static void say(TflReport report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(TflReport report, const char *format, ...) {
  char text[TEXT];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (report)
    report(text);
  else
    fprintf(stderr, "libteflon: %s\n", text);
}

/* Find all functions of Python in a library; return the name of a missing one, else NULL. */
static const char *look_up(void *library) {
  const struct {
    void *place;
    const char *name;
  } wanted[] = {
#define SYMBOL(name) {&py.name, #name}
      SYMBOL(Py_IsInitialized),   SYMBOL(Py_InitializeEx),      SYMBOL(Py_GetVersion),
      SYMBOL(Py_DecodeLocale),    SYMBOL(PyGILState_Ensure),    SYMBOL(PyGILState_Release),
      SYMBOL(PyEval_SaveThread),  SYMBOL(PyImport_AddModule),   SYMBOL(PyRun_String),
      SYMBOL(PyCapsule_Import),   SYMBOL(PyDict_GetItemString), SYMBOL(PyDict_New),
      SYMBOL(PyDict_SetItemString), SYMBOL(PyUnicode_AsUTF8AndSize),
      SYMBOL(PyUnicode_FromString), SYMBOL(PyErr_Clear),        SYMBOL(Py_DecRef),
#undef SYMBOL
  };
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    void *found = dlsym(library, wanted[i].name);
    if (!found)
      return wanted[i].name;
    memcpy(wanted[i].place, &found, sizeof found);
  }
  /* Deprecated, so a later Python may lack it. Then we set PYTHONEXECUTABLE instead. */
  void *optional = dlsym(library, "Py_SetProgramName");
  memcpy(&py.Py_SetProgramName, &optional, sizeof optional);
  return NULL;
}

/* The folder of this library, with links resolved; empty if it is unknown. */
static void own_folder(char *folder) {
  Dl_info info;
  char path[TEXT];
  *folder = 0;
  if (!dladdr((void *)&entry, &info) || !realpath(info.dli_fname, path))
    return;
  char *slash = strrchr(path, '/');
  if (slash) {
    *slash = 0;
    strcpy(folder, path);
  }
}

/* Find the Python program whose packages we import: TEFLON_PYTHON, else the one of the environment
 * in which this library is installed (PREFIX/lib/pythonX.Y/site-packages/teflon), else the one that
 * built it. */
static void find_program(char *program) {
  const char *named = getenv("TEFLON_PYTHON");
  if (named && *named) {
    snprintf(program, TEXT, "%s", named);
    return;
  }
  char prefix[TEXT];
  own_folder(prefix);
  for (int up = 0; up < 4 && *prefix; up++) {
    char *slash = strrchr(prefix, '/');
    *(slash ? slash : prefix) = 0;
  }
  int length = *prefix ? snprintf(program, TEXT, "%s/bin/python3", prefix) : TEXT;
  if (length >= TEXT || access(program, X_OK))
    snprintf(program, TEXT, "%s", PYTHON_EXECUTABLE);
}

/* Load libpython with global symbols, because numpy's modules need them: the library of the program
 * itself (PREFIX/bin/python3.11 -> PREFIX/lib), else that of the build, else that of the system. */
static void *open_library(const char *program) {
  const int how = RTLD_NOW | RTLD_GLOBAL;
  char real[TEXT], path[TEXT + 64];
  void *library = NULL;
  if (realpath(program, real)) {
    for (int up = 0; up < 2; up++) {
      char *slash = strrchr(real, '/');
      *(slash ? slash : real) = 0;
    }
    snprintf(path, sizeof path, "%s/lib/%s", real, PYTHON_SONAME);
    library = dlopen(path, how);
  }
  if (!library)
    library = dlopen(PYTHON_LIBRARY, how);
  return library ? library : dlopen(PYTHON_SONAME, how);
}

static bool start(TflReport report) {
  char program[TEXT];
  find_program(program);
  if (access(program, X_OK)) {
    say(report, "libteflon: %s cannot be run, must be a Python %s (set TEFLON_PYTHON to its path)",
        program, PYTHON_VERSION);
    return false;
  }
  void *library = open_library(program);
  if (!library) {
    say(report,
        "libteflon: no Python runs in this process and %s cannot be loaded (%s); install it or put"
        " its folder into LD_LIBRARY_PATH",
        PYTHON_SONAME, dlerror());
    return false;
  }
  const char *missing = look_up(library);
  if (missing) {
    say(report, "libteflon: %s has no %s", PYTHON_LIBRARY, missing);
    return false;
  }
  if (py.Py_IsInitialized())
    return true; /* the host has started it and keeps its symbols local */
  wchar_t *wide = py.Py_DecodeLocale(program, NULL);
  if (wide && py.Py_SetProgramName)
    py.Py_SetProgramName(wide); /* Python keeps this pointer: do not free it */
  else
    setenv("PYTHONEXECUTABLE", program, 0);
  setenv("OPENBLAS_NUM_THREADS", "1", 0); /* as in teflon/cli: layers are small */
  py.Py_InitializeEx(0);                  /* no signal handlers: they are the host's */
  started_in = getpid();
  py.PyEval_SaveThread();
  return true;
}

static bool version_fits(TflReport report) {
  const char *running = py.Py_GetVersion();
  size_t length = strlen(PYTHON_VERSION);
  if (strncmp(running, PYTHON_VERSION, length) || (running[length] >= '0' && running[length] <= '9')) {
    say(report, "libteflon: Python %.6s runs in this process, must be %s, for which this library"
        " was built", running, PYTHON_VERSION);
    return false;
  }
  if (strstr(running, "free-threading")) {
    say(report, "libteflon: a free-threaded Python runs in this process, must be one with a GIL");
    return false;
  }
  return true;
}

/* Import our module. If the package is not found, add the folder in which this library lies, then
 * that of the environment that built it. */
static const char PROGRAM[] =
    "import sys\n"
    "def find():\n"
    "    import importlib\n"
    "    import os, site\n"
    "    places = [os.path.dirname(folder)] if os.path.exists(folder + '/__init__.py') else []\n"
    "    if prefix: places.append(prefix)\n"
    "    try: return importlib.import_module('teflon.frontend.delegate._delegate')\n"
    "    except ModuleNotFoundError as error:\n"
    "        if not error.name.startswith('teflon'): raise\n"
    "    for place in places: site.addsitedir(place)\n"
    "    importlib.invalidate_caches()\n"
    "    return importlib.import_module('teflon.frontend.delegate._delegate')\n"
    "try:\n"
    "    find()\n"
    "    problem = ''\n"
    "except BaseException as error:\n"
    "    problem = f'{type(error).__name__}: {error}'\n";

static void set_text(void *dict, const char *name, const char *text) {
  void *object = py.PyUnicode_FromString(text);
  if (object) {
    py.PyDict_SetItemString(dict, name, object);
    py.Py_DecRef(object);
  } else {
    py.PyErr_Clear();
  }
}

/* Import our extension module and return its functions. The caller holds the GIL. */
static const TeflonEntry *import_entry(TflReport report) {
  char folder[TEXT];
  own_folder(folder);
  void *dict = py.PyDict_New();
  void *builtins = py.PyImport_AddModule("builtins");
  if (!dict || !builtins) {
    py.PyErr_Clear();
    say(report, "libteflon: not enough memory");
    return NULL;
  }
  py.PyDict_SetItemString(dict, "__builtins__", builtins);
  set_text(dict, "folder", folder);
  set_text(dict, "prefix", PYTHON_SITE);
  void *result = py.PyRun_String(PROGRAM, FILE_INPUT, dict, dict);
  void *problem = result ? py.PyDict_GetItemString(dict, "problem") : NULL;
  const char *text = problem ? py.PyUnicode_AsUTF8AndSize(problem, NULL) : "no memory";
  const TeflonEntry *found = NULL;
  if (text && *text)
    say(report, "libteflon: the package teflon cannot be imported (%s); install teflon-npu where"
        " this Python looks, or name another one with TEFLON_PYTHON", text);
  else
    found = py.PyCapsule_Import(TEFLON_CAPSULE, 0);
  py.PyErr_Clear();
  if (result)
    py.Py_DecRef(result);
  py.Py_DecRef(dict);
  return found;
}

/* Whether a sub-interpreter calls us: PyGILState_Ensure does not work there. */
static bool is_sub_interpreter(void) {
  void *(*unchecked)(void) = NULL;
  void *found = dlsym(RTLD_DEFAULT, "PyThreadState_GetUnchecked");
  if (!found)
    found = dlsym(RTLD_DEFAULT, "_PyThreadState_UncheckedGet");
  memcpy(&unchecked, &found, sizeof found);
  void *interpreter_of = dlsym(RTLD_DEFAULT, "PyThreadState_GetInterpreter");
  void *main_interpreter = dlsym(RTLD_DEFAULT, "PyInterpreterState_Main");
  void *state = unchecked ? unchecked() : NULL;
  if (!state || !interpreter_of || !main_interpreter)
    return false;
  void *(*of)(void *);
  void *(*main_)(void);
  memcpy(&of, &interpreter_of, sizeof of);
  memcpy(&main_, &main_interpreter, sizeof main_);
  return of(state) != main_();
}

/* Find or start the Python interpreter; return whether it can be used. */
static bool ready(TflReport report) {
  if (started_in && started_in != getpid()) {
    say(report, "libteflon: this process was forked from one in which libteflon.so had started"
        " Python; load it after the fork, or start the program anew");
    return false;
  }
  if (py.Py_IsInitialized)
    return true;
  void *running = dlsym(RTLD_DEFAULT, "Py_IsInitialized");
  int (*initialized)(void);
  memcpy(&initialized, &running, sizeof running);
  if (!running || !initialized())
    return start(report) && version_fits(report);
  const char *missing = look_up(RTLD_DEFAULT);
  if (missing) {
    say(report, "libteflon: the Python of this process has no %s", missing);
    return false;
  }
  return version_fits(report);
}

EXPORT TflDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                  TflReport report) {
  pthread_mutex_lock(&lock);
  bool good = ready(report);
  pthread_mutex_unlock(&lock);
  if (!good)
    return NULL;
  if (is_sub_interpreter()) {
    say(report, "libteflon: called from a Python sub-interpreter, must be the main one");
    return NULL;
  }
  int state = py.PyGILState_Ensure();
  if (!entry)
    entry = import_entry(report);
  py.PyGILState_Release(state);
  return entry ? entry->create(keys, values, count, report) : NULL;
}

EXPORT void tflite_plugin_destroy_delegate(TflDelegate *delegate) {
  if (delegate && entry)
    entry->destroy(delegate);
}
