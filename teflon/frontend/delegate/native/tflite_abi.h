/* The binary interface between a TFLite runtime and an external delegate: our own declarations.
 *
 * Ref: google-ai-edge/LiteRT tflite/core/c/common.h; offsets measured in tflite-runtime 2.14.0 and
 * ai-edge-litert 2.3.0, see docs/delegate.md. Only 64-bit machines.
 */
#ifndef TEFLON_TFLITE_ABI_H
#define TEFLON_TFLITE_ABI_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TFL_OK = 0, TFL_ERROR = 1 };
enum { TFL_ALLOW_DYNAMIC_TENSORS = 1, TFL_REQUIRE_PROPAGATED_SHAPES = 2 };
enum { TFL_MMAP_RO = 1, TFL_DYNAMIC = 4 };
enum { TFL_AFFINE = 1 };
enum { TFL_OPTIONAL = -1 };

typedef struct { int size; int data[]; } TflIntArray;
typedef struct { int size; float data[]; } TflFloatArray;

typedef struct {
  TflFloatArray *scale;
  TflIntArray *zero_point;
  int32_t quantized_dimension;
} TflAffine;

typedef struct {
  int type;
  void *data;
  TflIntArray *dims;
  struct { float scale; int32_t zero_point; } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const TflIntArray *dims_signature;
} TflTensor;

typedef struct {
  TflIntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data;
  void *builtin_data;
  const void *custom_initial_data;
  int custom_initial_data_size;
  void *delegate;
  bool might_have_side_effect;
} TflNode;

typedef struct TflContext TflContext;
typedef struct TflDelegate TflDelegate;

/* 88 bytes since 2.14, 80 before. Runtimes take it by value, so a runtime with a longer struct
 * reads the bytes after ours: the zeroed tail is for such fields of later versions. It does no harm to
 * runtimes with a shorter struct, because the struct is the only argument on the stack (x86-64) or
 * is passed by reference (aarch64). */
typedef struct {
  void *(*init)(TflContext *, const char *, size_t);
  void (*free)(TflContext *, void *);
  int (*prepare)(TflContext *, TflNode *);
  int (*invoke)(TflContext *, TflNode *);
  const char *(*profiling_string)(const TflContext *, const TflNode *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *async_kernel;
  uint64_t inplace_operator;
  unsigned char tail[64];
} TflRegistration;

struct TflContext {
  size_t tensors_size;
  int (*GetExecutionPlan)(TflContext *, TflIntArray **);
  TflTensor *tensors;
  void *impl;
  int (*ResizeTensor)(TflContext *, TflTensor *, TflIntArray *);
  void (*ReportError)(TflContext *, const char *, ...);
  int (*AddTensors)(TflContext *, int, int *);
  int (*GetNodeAndRegistration)(TflContext *, int, TflNode **, TflRegistration **);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(TflContext *, TflRegistration, const TflIntArray *,
                                               TflDelegate *);
  /* The members after this one are not used. Versions have only added members at the end. */
};

typedef struct {
  TflDelegate *delegate;
  TflIntArray *nodes_to_replace, *input_tensors, *output_tensors;
} TflDelegateParams;

struct TflDelegate {
  void *data;
  int (*Prepare)(TflContext *, TflDelegate *);
  void *CopyFromBufferHandle, *CopyToBufferHandle, *FreeBufferHandle;
  int64_t flags;
  void *opaque_delegate_builder;
  unsigned char tail[64];
};

static_assert(sizeof(void *) == 8, "the layouts are those of 64-bit machines");
static_assert(sizeof(TflTensor) == 112 && offsetof(TflTensor, quantization) == 80, "TfLiteTensor");
static_assert(sizeof(TflNode) == 80 && offsetof(TflNode, builtin_data) == 40, "TfLiteNode");
static_assert(offsetof(TflRegistration, tail) == 88, "TfLiteRegistration");
static_assert(offsetof(TflContext, ReplaceNodeSubsetsWithDelegateKernels) == 64, "TfLiteContext");
static_assert(offsetof(TflDelegate, tail) == 56, "TfLiteDelegate");
static_assert(sizeof(TflDelegateParams) == 32 && sizeof(TflAffine) == 24, "TfLiteDelegateParams");

/* The functions that libteflon.so gets from the extension module. */
typedef void (*TflReport)(const char *);
typedef struct {
  TflDelegate *(*create)(char **keys, char **values, size_t count, TflReport report);
  void (*destroy)(TflDelegate *delegate); /* not NULL */
} TeflonEntry;

#define TEFLON_CAPSULE "teflon.frontend.delegate._delegate.entry"

#endif
