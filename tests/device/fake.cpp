// An accelerator without hardware: host memory behind it, every operator computed by the CPU's.
//
// Like CUDA it refuses operands of different devices, and it counts what a host does for a device:
// launches of kernels, waits for their results, copies. tests/device/README.md says what for.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/library.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <unordered_set>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device HERE(KIND, 0);

// --- what is counted ---

enum Count { LAUNCHES, SYNCS, TO_DEVICE, TO_HOST, BYTES, PEAK, COUNTS };
std::atomic<int64_t> counts[COUNTS];
std::mutex names_mutex;
std::map<std::string, int64_t> names;  // operator -> launches
std::map<std::string, int64_t> waits;  // operator -> syncs

void add(Count what, const std::string& name) {
  ++counts[what];
  std::lock_guard<std::mutex> hold(names_mutex);
  ++(what == SYNCS ? waits : names)[name];
}

// Results whose size or value the host has to know before it goes on, as on CUDA.
const std::unordered_set<std::string> WAITING = {
    "aten::_local_scalar_dense", "aten::nonzero",     "aten::masked_select",
    "aten::_unique2",            "aten::_unique",     "aten::unique_dim",
    "aten::unique_consecutive",  "aten::bincount",    "aten::equal",
    "aten::repeat_interleave",   "aten::is_nonzero",
};

// Which torch would put together from others, with other rounding than the CPU's own kernels.
constexpr const char* OWN_KERNELS[] = {
    "native_layer_norm", "native_layer_norm_backward", "native_group_norm",
    "native_group_norm_backward", "mse_loss", "mse_loss_backward", "addmv", "dot",
};

// Which take one operand on the host: copies, and indices, which CUDA copies by itself.
const std::unordered_set<std::string> MIXING = {
    "aten::copy_",     "aten::_copy_from", "aten::_copy_from_and_resize", "aten::index",
    "aten::index_put", "aten::index_put_", "aten::_index_put_impl_",      "aten::set_",
};

// --- memory ---

std::atomic<int64_t> limit{INT64_MAX};  // bytes that may be had, as of a card or a job's share

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    TORCH_CHECK_WITH(
        OutOfMemoryError, counts[BYTES] + static_cast<int64_t>(bytes) <= limit,
        "fake out of memory: ", bytes, " bytes wanted, ", limit - counts[BYTES], " free");
    void* data = bytes ? c10::GetCPUAllocator()->raw_allocate(bytes) : nullptr;
    auto* block = new std::pair<void*, size_t>(data, bytes);
    const auto now = counts[BYTES] += bytes;
    auto peak = counts[PEAK].load();
    while (now > peak && !counts[PEAK].compare_exchange_weak(peak, now)) {
    }
    return {data, block, &release, HERE};
  }
  static void release(void* context) {
    auto* block = static_cast<std::pair<void*, size_t>*>(context);
    counts[BYTES] -= block->second;
    if (block->first) c10::GetCPUAllocator()->raw_deallocate(block->first);
    delete block;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
Memory memory;
REGISTER_ALLOCATOR(KIND, &memory);

// Host memory that a device copies from while the host goes on; any other is waited for.
struct Pinned final : c10::Allocator {
  static inline std::mutex held;
  static inline std::unordered_set<const void*> blocks;
  static bool has(const void* data) {
    std::lock_guard<std::mutex> hold(held);
    return blocks.count(data) > 0;
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::GetCPUAllocator()->raw_allocate(bytes ? bytes : 1);
    std::lock_guard<std::mutex> hold(held);
    blocks.insert(data);
    return {data, data, &release, at::kCPU};
  }
  static void release(void* data) {
    {
      std::lock_guard<std::mutex> hold(held);
      blocks.erase(data);
    }
    c10::GetCPUAllocator()->raw_deallocate(data);
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
Pinned pinned;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return HERE; }
  c10::Device getDevice() const override { return HERE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag)
      const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// Random numbers are those of the CPU; tensors drawn by it are on the device.
struct Random final : c10::GeneratorImpl {
  at::Generator own = at::detail::createCPUGenerator();
  Random() : c10::GeneratorImpl(HERE, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)) {}
  void set_current_seed(uint64_t seed) override { own.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { own.set_offset(offset); }
  uint64_t get_offset() const override { return own.get_offset(); }
  uint64_t current_seed() const override { return own.current_seed(); }
  uint64_t seed() override { return const_cast<at::Generator&>(own).seed(); }
  void set_state(const c10::TensorImpl& state) override {
    own.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return own.unsafeGetGeneratorImpl()->get_state();
  }
  Random* clone_impl() const override {
    auto* copy = new Random;
    copy->own = own.clone();
    return copy;
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<Random>();
  }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned; }
  bool isPinnedPtr(const void* data) const override { return Pinned::has(data); }
  at::Device getDeviceFromPtr(void*) const override { return HERE; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto fresh = memory.allocate(bytes);
    memory.copy_data(fresh.mutable_get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.set_data_ptr(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

// --- operators ---

at::Tensor empty(
    c10::SymIntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      C10_AS_INTARRAYREF_SLOW(size), &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      at::dtype_or_default(type), format);
}

at::Tensor empty_strided(
    c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> type,
    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory,
      c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), at::dtype_or_default(type));
}

// The same bytes as a tensor of the CPU.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.device().type() != KIND) return tensor;
  auto keep = tensor.storage();
  auto storage = c10::Storage(
      c10::Storage::use_byte_size_t(), keep.nbytes(),
      at::DataPtr(
          keep.mutable_data(), new c10::Storage(keep),
          [](void* context) { delete static_cast<c10::Storage*>(context); }, at::kCPU),
      c10::GetCPUAllocator(), true);
  auto host = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  host.unsafeGetTensorImpl()->set_sizes_and_strides(
      tensor.sizes(), tensor.strides(), tensor.storage_offset());
  return host;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const bool up = from.is_cpu(), down = to.is_cpu();
  if (up) ++counts[TO_DEVICE];
  else if (down) ++counts[TO_HOST];
  add(LAUNCHES, up ? "to device" : down ? "to host" : "aten::copy_");
  if (down && !non_blocking) add(SYNCS, "to host");
  if (up && !(non_blocking && Pinned::has(from.storage().data()))) add(SYNCS, "to device");
  on_host(to).copy_(on_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

const at::Tensor& resize(
    const at::Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  const auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(sizes);
  if (format && *format != at::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  const auto bytes = (impl->numel() + impl->storage_offset()) * self.element_size();
  if (bytes > self.storage().nbytes()) {
    at::detail::getPrivateUse1Hooks().resizePrivateUse1Bytes(self.storage(), bytes);
  }
  return self;
}

at::Tensor as_strided(
    const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
    std::optional<c10::SymInt> offset) {
  std::optional<int64_t> start;
  if (offset) start = offset->guard_int(__FILE__, __LINE__);
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), start);
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(
    const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return as_strided(self, size, stride, self.storage_offset());
}

at::Tensor& set_storage(
    at::Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
    c10::SymIntArrayRef stride) {
  return at::native::set_storage_cpu_(
      self, source, offset.guard_int(__FILE__, __LINE__), C10_AS_INTARRAYREF_SLOW(size),
      C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const auto count = static_cast<int64_t>(source.nbytes() / self.element_size());
  return at::native::set_storage_cpu_(self, source, 0, {count}, {});
}

at::Scalar local_scalar(const at::Tensor& self) {
  add(SYNCS, "aten::_local_scalar_dense");
  return on_host(self).item();
}

void same_device(const char* name, std::initializer_list<at::Tensor> tensors) {
  for (const auto& tensor : tensors) {
    TORCH_CHECK(
        !tensor.defined() || tensor.device().type() == KIND,
        "Expected all tensors to be on the same device, but ", name,
        " was given tensors of fake:0 and of ", tensor.device());
  }
}

at::Tensor on_device(const at::Tensor& host) {
  auto made = at::empty_strided(host.sizes(), host.strides(), host.options().device(HERE));
  on_host(made).copy_(host);
  return made;
}

// torch computes convolutions of such a device by these two alone.
at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    bool transposed, c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  same_device("aten::convolution", {input, weight, bias ? *bias : at::Tensor()});
  add(LAUNCHES, "aten::convolution");
  std::optional<at::Tensor> own;
  if (bias && bias->defined()) own = on_host(*bias);
  return on_device(at::convolution_symint(
      on_host(input), on_host(weight), own, stride, padding, dilation, transposed,
      output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    bool transposed, c10::SymIntArrayRef output_padding, c10::SymInt groups,
    std::array<bool, 3> mask) {
  same_device("aten::convolution_backward", {gradient, input, weight});
  for (const bool wanted : mask) {
    if (wanted) add(LAUNCHES, "aten::convolution_backward");
  }
  const auto channels = c10::SymInt(transposed ? weight.size(1) * groups : weight.size(0));
  const std::vector<c10::SymInt> bias{channels};
  auto [to_input, to_weight, to_bias] = at::convolution_backward_symint(
      on_host(gradient), on_host(input), on_host(weight), bias, stride, padding, dilation,
      transposed, output_padding, groups, mask);
  const auto back = [](const at::Tensor& t) { return t.defined() ? on_device(t) : t; };
  return {back(to_input), back(to_weight), back(to_bias)};
}

// CUDA's memory-efficient attention is one kernel in either direction. A bias whose rows are no
// multiple of 16 is padded before (a fill and a copy), and its gradient cut.
constexpr auto FUSED = static_cast<int64_t>(at::SDPBackend::overrideable);
constexpr auto PLAIN = static_cast<int64_t>(at::SDPBackend::math);
constexpr int64_t ALIGNED = 16;

int64_t attention_choice(
    const at::Tensor& q, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
    double dropout, bool, std::optional<double>, bool) {
  return q.dim() == 4 && dropout == 0 ? FUSED : PLAIN;
}

bool padded(const at::Tensor& bias) { return bias.defined() && bias.size(-1) % ALIGNED; }

// In plain operations of the CPU, whose bits are those of its own plain attention.
at::Tensor plain_attention(
    const std::vector<at::Tensor>& from, bool causal, std::optional<double> scale) {
  std::optional<at::Tensor> bias;
  if (from[3].defined()) bias = from[3];
  return std::get<0>(at::_scaled_dot_product_attention_math(
      from[0], from[1], from[2], bias, 0.0, causal, std::nullopt, scale));
}

// Batch, tokens, heads, channels: the order in memory in which those kernels leave their results.
at::Tensor by_tokens(const at::Tensor& host) {
  return on_device(host.transpose(1, 2).contiguous().transpose(1, 2));
}

std::tuple<
    at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor,
    at::Tensor, at::Tensor>
attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& given, double, bool causal, bool,
    std::optional<double> scale) {
  const auto bias = given ? *given : at::Tensor();
  same_device("aten::scaled_dot_product_attention", {q, k, v, bias});
  for (int i = 0; i < (padded(bias) ? 3 : 1); ++i) {
    add(LAUNCHES, i ? "pad of attention" : "attention");
  }
  std::vector<at::Tensor> host;
  for (const auto& t : {q, k, v, bias}) host.push_back(t.defined() ? on_host(t) : t);
  const auto none = at::empty({0}, q.options());
  return {
      by_tokens(plain_attention(host, causal, scale)), none, none, none, q.sym_size(2),
      k.sym_size(2), none, none, none};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attention_backward(
    const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const at::Tensor& bias, std::array<bool, 4> wanted, const at::Tensor&, const at::Tensor&,
    const at::Tensor&, const at::Tensor&, c10::SymInt, c10::SymInt, double, bool causal,
    const at::Tensor&, const at::Tensor&, std::optional<double> scale) {
  for (int i = 0; i < (wanted[3] && padded(bias) ? 2 : 1); ++i) {
    add(LAUNCHES, i ? "pad of attention" : "attention_backward");
  }
  const auto here = c10::impl::tls_local_dispatch_key_set();  // kernels are called without autograd
  c10::impl::ForceDispatchKeyGuard above(
      here.included_, here.excluded_ - c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  at::AutoGradMode on(true);
  std::vector<at::Tensor> host, asked;
  for (const auto& t : {q, k, v, bias}) {
    host.push_back(t.defined() ? on_host(t).detach() : t);
    if (t.defined() && wanted[host.size() - 1]) asked.push_back(host.back().requires_grad_());
  }
  const auto out = plain_attention(host, causal, scale);
  const auto found = torch::autograd::grad({out}, asked, {on_host(gradient)});
  std::array<at::Tensor, 4> back;
  size_t next = 0;
  for (size_t i = 0; i < 4; ++i) {
    if (!host[i].defined() || !wanted[i]) continue;
    back[i] = i < 3 ? by_tokens(found[next]) : on_device(found[next]);
    ++next;
  }
  return {back[0], back[1], back[2], back[3]};
}

// The arguments of an operator as the CPU takes them: tensors of the same bytes, so whatever it
// writes into one is written, whether its schema says so (batch norms' do not) or not.
struct Borrowed {
  std::vector<std::pair<at::Tensor, at::Tensor>> tensors;  // the device's, the same on the host
  bool host = false, here = false;
  int waits = 0;
  bool first_here = false;  // the first argument is a tensor of the device

  at::Tensor borrow(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    host |= tensor.is_cpu() && tensor.dim() > 0;
    if (tensor.device().type() != KIND) return tensor;
    here = true;
    for (const auto& [own, lent] : tensors) {
      if (own.is_same(tensor)) return lent;
    }
    tensors.emplace_back(tensor, on_host(tensor));
    return tensors.back().second;
  }

  c10::IValue borrow(const c10::IValue& value) {
    if (value.isTensor()) return borrow(value.toTensor());
    if (value.isTensorList()) {
      c10::List<at::Tensor> lent;
      for (const at::Tensor& tensor : value.toTensorList()) lent.push_back(borrow(tensor));
      return lent;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> lent;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList()) {
        if (!tensor || !tensor->defined()) {
          lent.push_back(std::nullopt);
          continue;
        }
        const auto type = tensor->scalar_type();
        const bool mask = type == at::kBool || type == at::kByte;
        waits += mask || tensor->is_cpu();  // for its size, or for its copy
        lent.push_back(borrow(*tensor));
      }
      return lent;
    }
    if (value.isDevice() && value.toDevice().type() == KIND) return at::Device(at::kCPU);
    if (value.isGenerator() && value.toGenerator().device().type() == KIND) {
      return static_cast<Random*>(value.toGenerator().unsafeGetGeneratorImpl())->own;
    }
    return value;
  }

  // What the CPU made, on the device; what it was lent, as it was.
  at::Tensor back(const at::Tensor& tensor) const {
    if (!tensor.defined()) return tensor;
    for (const auto& [own, lent] : tensors) {
      if (lent.is_same(tensor)) return own;
    }
    return on_device(tensor);
  }

  // Outputs that were given with another size have the right one afterwards.
  void resized() const {
    for (const auto& [own, lent] : tensors) {
      if (own.sizes() == lent.sizes() && own.const_data_ptr() == lent.const_data_ptr()) continue;
      own.resize_(lent.sizes());
      on_host(own).copy_(lent);
    }
  }
};

void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& name = schema.name();
  for (const auto& result : schema.returns()) {
    TORCH_CHECK(
        !result.alias_info() || result.alias_info()->isWrite(), name,
        " returns a view, which has to be registered in fake.cpp");
  }
  Borrowed borrowed;
  const auto count = schema.arguments().size(), whole = stack->size();
  for (auto& value : torch::jit::last(*stack, count).vec()) {
    const bool first = stack->size() == whole && value.isTensor();
    stack->push_back(borrowed.borrow(value));
    if (first) borrowed.first_here = borrowed.here;
  }
  stack->erase(stack->end() - 2 * count, stack->end() - count);
  TORCH_CHECK(
      !(borrowed.host && borrowed.here) || MIXING.count(name),
      "Expected all tensors to be on the same device, but ", name,
      " was given tensors of fake:0 and of cpu");
  if (name.rfind("aten::index", 0) == 0 && torch::jit::peek(*stack, 0, count).isTensor()) {
    TORCH_CHECK(
        !borrowed.here || borrowed.first_here, "Expected all tensors to be on the same device, but ",
        name, " was given a tensor of cpu and indices of fake:0");
  }
  const size_t launches =  // a roll is one for each dimension
      name == "aten::roll" ? torch::jit::peek(*stack, 2, count).toIntVector().size() : 1;
  for (size_t i = 0; i < launches; ++i) add(LAUNCHES, name);
  if (name.rfind("aten::native_group_norm", 0) == 0) {  // whose kernel takes contiguous ones alone
    for (int i = 0; i < (name == "aten::native_group_norm" ? 1 : 2); ++i) {
      const auto given = torch::jit::peek(*stack, i, count).toTensor();
      if (!given.is_contiguous()) add(LAUNCHES, "copy for group norm");
    }
  }
  for (int i = 0; i < borrowed.waits + int(WAITING.count(name)); ++i) add(SYNCS, name);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  borrowed.resized();
  const auto made = schema.returns().size();
  for (auto place = stack->end() - made; place != stack->end(); ++place) {
    if (place->isTensor()) {
      *place = borrowed.back(place->toTensor());
    } else if (place->isTensorList()) {
      c10::List<at::Tensor> here;
      for (const at::Tensor& tensor : place->toTensorList()) here.push_back(borrowed.back(tensor));
      *place = here;
    }
  }
}

// The names of the operators that CUDA has for lists of tensors, each some kernels for all of them.
std::vector<std::string> of_lists() {
  std::vector<std::string> found;
  for (const auto& op : c10::Dispatcher::singleton().getAllOpNames()) {
    if (op.name.rfind("aten::_foreach_", 0)) continue;
    found.push_back(op.name + (op.overload_name.empty() ? "" : "." + op.overload_name));
  }
  return found;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("resize_", resize);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Storage", set_whole_storage);
  m.impl("unfold", at::native::unfold);
  m.impl("_local_scalar_dense", local_scalar);
  for (const char* name : OWN_KERNELS) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
  for (const auto& name : of_lists()) {
    m.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
  m.impl("_scaled_dot_product_fused_attention_overrideable", attention);
  m.impl("_scaled_dot_product_fused_attention_overrideable_backward", attention_backward);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

// Mixed precision: what CUDA computes in half, of what the methods use.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(conv1d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(mm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(bmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(addmm, lower_precision_fp)
}

}  // namespace

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &attention_choice)
}

extern "C" {

void fake_register() { at::RegisterPrivateUse1HooksInterface(new Hooks); }

void fake_forget() {
  std::lock_guard<std::mutex> hold(names_mutex);
  for (int i = 0; i < BYTES; ++i) counts[i] = 0;
  counts[PEAK] = counts[BYTES].load();
  names.clear();
  waits.clear();
}

void fake_limit(int64_t bytes) { limit = bytes; }

int64_t fake_count(int what) { return counts[what]; }

// "name count\n" of every operator; valid until the next call.
const char* fake_names(int syncs) {
  static std::string text;
  std::lock_guard<std::mutex> hold(names_mutex);
  text.clear();
  for (const auto& [name, count] : syncs ? waits : names) {
    text += name + " " + std::to_string(count) + "\n";
  }
  return text.c_str();
}
}
