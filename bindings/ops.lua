-- SPDX-License-Identifier: MIT
--
-- ops.lua: the engine's pure operations as Lua functions. Each returns a new tensor.
--
-- A function takes tensors, and numbers where the formula allows one. All arguments plain numbers: the
-- result is a number, so that a formula written for tensors works on hyper-parameters too. An argument that
-- is a table whose metatable has `fuse_apply` is symbolic: the call then returns
-- fuse_apply(name, a, b, c), where `name` is the engine's name of the operation without "mb_".
-- Dimensions and positions count from 1, negative ones from the end.

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local produce, fail = handle.produce, status.fail
local is_tensor, describe = types.is_tensor, types.describe

local M = {}

-- ----- arguments --------------------------------------------------------------------------------------

local function symbolic_apply(x)
  local meta = type(x) == "table" and getmetatable(x)
  return type(meta) == "table" and rawget(meta, "fuse_apply") or nil
end

local function need_tensor(who, argument, x)
  if not is_tensor(x) then fail("%s: %s must be a tensor, not %s", who, argument, describe(x)) end
  return x
end

local function need_number(who, argument, x)
  if type(x) ~= "number" then fail("%s: %s must be a number, not %s", who, argument, describe(x)) end
  return x
end

local function optional_tensor(who, argument, x)
  if x == nil then return nil end
  return need_tensor(who, argument, x)
end

-- A tensor without dimensions, of the dtype and device of `like`.
local function scalar(x, like)
  return produce("mb_full", C.mb_tensor_dtype(like), 0, nil, C.mb_tensor_device(like), x)
end

local function keep_flag(keep)
  if type(keep) == "table" then keep = keep.keepdim end
  return keep and 1 or 0
end

-- ----- one argument -----------------------------------------------------------------------------------

---@return fun(a: moonbow.Tensor|number): moonbow.Tensor|number
local function unary(name, on_number)
  local c_name = "mb_" .. name
  return function(a)
    if is_tensor(a) then return produce(c_name, a) end
    if type(a) == "number" then return on_number(a) end
    local apply = symbolic_apply(a)
    if apply then return apply(name, a) end
    fail("mb.%s: a tensor or a number was expected, not %s", name, describe(a))
  end
end

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local function erf_missing() fail("mb.gelu_erf: a tensor was expected, not a number") end

--- The negative of a.
M.neg = unary("neg", function(x) return -x end)
--- |a|
M.abs = unary("abs", math.abs)
--- The sign of a: -1, 0 or 1.
M.sign = unary("sign", function(x) return x > 0 and 1 or x < 0 and -1 or 0 end)
--- e^a
M.exp = unary("exp", math.exp)
--- The natural logarithm: of 0 it is -inf, of less NaN.
M.log = unary("log", math.log)
--- The square root; of a negative number NaN.
M.sqrt = unary("sqrt", math.sqrt)
--- a^2
M.square = unary("square", function(x) return x * x end)
--- 1 / a
M.reciprocal = unary("reciprocal", function(x) return 1 / x end)
--- tanh(a)
M.tanh = unary("tanh", math.tanh)
--- 1 / (1 + e^-a)
M.sigmoid = unary("sigmoid", sigmoid)
--- a sigmoid(a), also called swish (Elfwing, Uchibe, Doya 2017).
M.silu = unary("silu", function(x) return x * sigmoid(x) end)
--- max(a, 0)
M.relu = unary("relu", function(x) return math.max(x, 0) end)
--- GELU in GPT-2's form: a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) (Hendrycks, Gimpel 2016).
M.gelu_tanh = unary("gelu_tanh", function(x)
  return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)))
end)
--- GELU: a Phi(a), Phi the normal distribution function. Of tensors alone.
M.gelu_erf = unary("gelu_erf", erf_missing)
--- The other name of gelu_tanh.
M.gelu = M.gelu_tanh

--- 1 / sqrt(a)
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function M.rsqrt(a)
  local apply = symbolic_apply(a)
  if apply then return apply("rsqrt", a) end
  return M.reciprocal(M.sqrt(a))
end

-- ----- two arguments ----------------------------------------------------------------------------------

-- `with_number` deals with tensor and number cheaper than a tensor made of the number would, or is nil:
-- with_number(tensor, number, number_first).
---@return fun(a: moonbow.Tensor|number, b: moonbow.Tensor|number): moonbow.Tensor|number
local function binary(name, on_numbers, with_number)
  local c_name = "mb_" .. name
  return function(a, b)
    local ta, tb = is_tensor(a), is_tensor(b)
    if ta and tb then return produce(c_name, a, b) end
    if ta and type(b) == "number" then
      return with_number and with_number(a, b, false) or produce(c_name, a, scalar(b, a))
    end
    if tb and type(a) == "number" then
      return with_number and with_number(b, a, true) or produce(c_name, scalar(a, b), b)
    end
    if type(a) == "number" and type(b) == "number" then return on_numbers(a, b) end
    local apply = symbolic_apply(a) or symbolic_apply(b)
    if apply then return apply(name, a, b) end
    fail("mb.%s: tensors or numbers were expected, not %s and %s", name, describe(a), describe(b))
  end
end

local function affine(a, scale, shift) return produce("mb_affine", a, scale, shift) end
local function flag(x) return x and 1 or 0 end

--- a + b. Shapes are broadcast as NumPy does it, here and in all functions of two tensors: sizes are compared from the last
--- dimension on, and a size of 1 or a missing one is stretched. Both have one dtype.
M.add = binary("add", function(x, y) return x + y end, function(t, x) return affine(t, 1, x) end)
--- a - b, broadcast.
M.sub = binary("sub", function(x, y) return x - y end, function(t, x, first)
  if first then return affine(t, -1, x) end
  return affine(t, 1, -x)
end)
--- a b, element by element, broadcast.
M.mul = binary("mul", function(x, y) return x * y end, function(t, x) return affine(t, x, 0) end)
--- a / b, broadcast.
M.div = binary("div", function(x, y) return x / y end)
--- a^b, broadcast.
M.pow = binary("pow", function(x, y) return x ^ y end, function(t, x, first)
  return not first and produce("mb_pow_scalar", t, x) or nil
end)
--- The lesser of a and b, element by element.
M.minimum = binary("minimum", math.min)
--- The greater of a and b, element by element.
M.maximum = binary("maximum", math.max)
--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
M.less = binary("less", function(x, y) return flag(x < y) end)
--- a <= b, element by element: 1 or 0 in a's dtype.
M.less_equal = binary("less_equal", function(x, y) return flag(x <= y) end)
--- a == b, element by element: 1 or 0 in a's dtype.
M.equal = binary("equal", function(x, y) return flag(x == y) end)
M.lt, M.le, M.eq = M.less, M.less_equal, M.equal
--- a > b, element by element: 1 or 0 in b's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function M.greater(a, b) return M.less(b, a) end
--- a >= b, element by element: 1 or 0 in b's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function M.greater_equal(a, b) return M.less_equal(b, a) end
M.gt, M.ge = M.greater, M.greater_equal

--- condition ~= 0 and a or b, element by element; a and b may be numbers.
---@param condition moonbow.Tensor|number
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function M.where(condition, a, b)
  local apply = symbolic_apply(condition) or symbolic_apply(a) or symbolic_apply(b)
  if apply then return apply("where", condition, a, b) end
  if type(condition) == "number" then
    if condition ~= 0 then return a end
    return b
  end
  need_tensor("mb.where", "condition", condition)
  local like = is_tensor(a) and a or is_tensor(b) and b or condition
  if type(a) == "number" then a = scalar(a, like) end
  if type(b) == "number" then b = scalar(b, like) end
  return produce("mb_where", condition, need_tensor("mb.where", "a", a), need_tensor("mb.where", "b", b))
end

--- min(max(a, low), high); either bound may be nil.
---@param a moonbow.Tensor|number
---@param low? moonbow.Tensor|number
---@param high? moonbow.Tensor|number
---@return moonbow.Tensor|number
function M.clamp(a, low, high)
  if low ~= nil then a = M.maximum(a, low) end
  if high ~= nil then a = M.minimum(a, high) end
  return a
end

--- scale * a + shift
---@param a moonbow.Tensor
---@param scale number
---@param shift number
---@return moonbow.Tensor
function M.affine(a, scale, shift)
  if symbolic_apply(a) then return a * scale + shift end
  return affine(need_tensor("mb.affine", "a", a), need_number("mb.affine", "scale", scale),
                need_number("mb.affine", "shift", shift))
end

-- ----- reductions -------------------------------------------------------------------------------------

-- fn(a, dims, keepdim): dims is a dimension, an array of them, or nil for all; keepdim is a flag or an
-- option table { keepdim = true } and leaves size 1 behind.
---@return fun(a: moonbow.Tensor, dims?: integer|integer[], keepdim?: boolean|{ keepdim: boolean }): moonbow.Tensor
local function reduction(name)
  local c_name, who = "mb_" .. name, "mb." .. name
  return function(a, dims, keepdim)
    local apply = symbolic_apply(a)
    if apply then return apply(name, a, dims, keepdim) end
    need_tensor(who, "a", a)
    local n, array = types.dims(who, dims, a)
    return produce(c_name, a, n, array, keep_flag(keepdim))
  end
end

--- Sum over `dims`, a dimension or an array of them, or over all elements; keepdim leaves size 1 behind.
M.sum = reduction "sum"
--- Mean over `dims`, or over all elements.
M.mean = reduction "mean"
--- Largest element over `dims`, or of all.
M.max = reduction "max"
--- Smallest element over `dims`, or of all.
M.min = reduction "min"

--- Position of the largest element along `dim`, as data: counts from 0. Without dim, over all elements.
---@param a moonbow.Tensor
---@param dim? integer
---@param keepdim? boolean
---@return moonbow.Tensor positions i32
function M.argmax(a, dim, keepdim)
  need_tensor("mb.argmax", "a", a)
  if dim == nil then
    a, dim = M.flatten(a), 1
  end
  return produce("mb_argmax", a, types.dim("mb.argmax", dim, a), keep_flag(keepdim))
end

--- Euclidean norm of all elements, or along `dims`.
---@param a moonbow.Tensor
---@param dims? integer|integer[]
---@param keepdim? boolean
---@return moonbow.Tensor
function M.norm(a, dims, keepdim)
  local apply = symbolic_apply(a)
  if apply then return apply("norm", a, dims, keepdim) end
  return M.sqrt(M.sum(M.square(need_tensor("mb.norm", "a", a)), dims, keepdim))
end

-- ----- products and layers ----------------------------------------------------------------------------

--- op(a) op(b) over the last two dimensions: (..., m, k) (..., k, n) -> (..., m, n).
---@param a moonbow.Tensor
---@param b moonbow.Tensor
---@param options? { transpose_a?: boolean, transpose_b?: boolean }
---@return moonbow.Tensor
function M.matmul(a, b, options)
  return produce("mb_matmul", need_tensor("mb.matmul", "a", a), need_tensor("mb.matmul", "b", b),
                 options and options.transpose_a and 1 or 0, options and options.transpose_b and 1 or 0)
end

--- x weight^T + bias: x (..., in), weight (out, in), bias (out) or nil -> (..., out)
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function M.linear(x, weight, bias)
  return produce("mb_linear", need_tensor("mb.linear", "x", x), need_tensor("mb.linear", "weight", weight),
                 optional_tensor("mb.linear", "bias", bias))
end

--- linear(x, weight, bias) whose rows begin at multiples of 128 bytes (16 if they are short): a view, unless they do anyway. For
--- logits of a large odd vocabulary that go into a loss.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function M.linear_aligned(x, weight, bias)
  local who = "mb.linear_aligned"
  return produce("mb_linear_aligned", need_tensor(who, "x", x), need_tensor(who, "weight", weight),
                 optional_tensor(who, "bias", bias))
end

--- linear(gelu_tanh(x), weight, bias) in less memory: the backward computes gelu_tanh(x) again.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function M.gelu_linear(x, weight, bias)
  return produce("mb_gelu_linear", need_tensor("mb.gelu_linear", "x", x), need_tensor("mb.gelu_linear", "weight", weight),
                 optional_tensor("mb.gelu_linear", "bias", bias))
end

--- gelu_linear(linear(x, weight, bias), weight_out, bias_out): a network of one hidden layer, whose GELU is made where the first
--- product is. The backward computes GELU again, or takes what is kept of it.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor (hidden, in)
---@param bias moonbow.Tensor|nil (hidden)
---@param weight_out moonbow.Tensor (out, hidden)
---@param bias_out? moonbow.Tensor (out)
---@param keep? boolean default false
---@return moonbow.Tensor
function M.gelu_mlp(x, weight, bias, weight_out, bias_out, keep)
  local who = "mb.gelu_mlp"
  return produce("mb_gelu_mlp", need_tensor(who, "x", x), need_tensor(who, "weight", weight), optional_tensor(who, "bias", bias),
                 need_tensor(who, "weight_out", weight_out), optional_tensor(who, "bias_out", bias_out), keep and 1 or 0)
end

--- Rows of a table: weight (V, C), ids any shape of integers, from 0 -> ids' shape x (C)
---@param weight moonbow.Tensor
---@param ids moonbow.Tensor
---@return moonbow.Tensor
function M.embedding(weight, ids)
  local who = "mb.embedding"
  return produce("mb_embedding", need_tensor(who, "table", weight), need_tensor(who, "ids", ids))
end

--- Layer normalization over the last dimension (Ba, Kiros, Hinton 2016): weight (x - mean) / sqrt(variance + epsilon) + bias,
--- with weight and bias (C) or nil.
---@param x moonbow.Tensor (..., C)
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor
function M.layernorm(x, weight, bias, epsilon)
  local who = "mb.layernorm"
  return produce("mb_layernorm", need_tensor(who, "x", x), optional_tensor(who, "weight", weight),
                 optional_tensor(who, "bias", bias), epsilon or 1e-5)
end

--- Root mean square normalization over the last dimension (Zhang, Sennrich 2019): weight x / sqrt(mean of x^2 + epsilon).
---@param x moonbow.Tensor (..., C)
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor
function M.rmsnorm(x, weight, epsilon)
  need_tensor("mb.rmsnorm", "x", x)
  return produce("mb_rmsnorm", x, optional_tensor("mb.rmsnorm", "weight", weight), epsilon or 1e-6)
end

local pair = ffi.new "mb_tensor *[2]"

-- C[name](pair[0], pair[1], ...): two new handles.
local function two(name, ...)
  handle.act(name, pair, pair + 1, ...)
  local first, second = pair[0], pair[1] -- read before a collection can call the engine
  return handle.own(first), handle.own(second)
end

--- layernorm(x + added, weight, bias, epsilon) and x + added, in one pass over memory.
---@param x moonbow.Tensor (..., C)
---@param added moonbow.Tensor of x's shape
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor norm, moonbow.Tensor sum
function M.add_layernorm(x, added, weight, bias, epsilon)
  local who = "mb.add_layernorm"
  return two("mb_add_layernorm", need_tensor(who, "x", x), need_tensor(who, "added", added),
             optional_tensor(who, "weight", weight), optional_tensor(who, "bias", bias), epsilon or 1e-5)
end

--- rmsnorm(x + added, weight, epsilon) and x + added, in one pass over memory.
---@param x moonbow.Tensor (..., C)
---@param added moonbow.Tensor of x's shape
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor norm, moonbow.Tensor sum
function M.add_rmsnorm(x, added, weight, epsilon)
  local who = "mb.add_rmsnorm"
  return two("mb_add_rmsnorm", need_tensor(who, "x", x), need_tensor(who, "added", added),
             optional_tensor(who, "weight", weight), epsilon or 1e-6)
end

--- Rotary position embedding (Su et al. 2021).
---@param x moonbow.Tensor (B, T, H, D)
---@param base? number default 10000
---@param first_position? integer of x's first token, counted from 0, the default
---@return moonbow.Tensor
function M.rotary(x, base, first_position)
  return produce("mb_rotary", need_tensor("mb.rotary", "x", x), base or 10000, first_position or 0)
end

--- e^a over its sum along a dimension.
---@param a moonbow.Tensor
---@param dim? integer default: the last
---@return moonbow.Tensor
function M.softmax(a, dim)
  need_tensor("mb.softmax", "a", a)
  return produce("mb_softmax", a, types.dim("mb.softmax", dim or -1, a))
end

--- The logarithm of softmax, without its underflow.
---@param a moonbow.Tensor
---@param dim? integer default: the last
---@return moonbow.Tensor
function M.log_softmax(a, dim)
  need_tensor("mb.log_softmax", "a", a)
  return produce("mb_log_softmax", a, types.dim("mb.log_softmax", dim or -1, a))
end

--- Causal attention, softmax(scale q k^T) v, over q, k, v (B, T, H, D) -> (B, T, H, D).
---@param q moonbow.Tensor
---@param k moonbow.Tensor
---@param v moonbow.Tensor
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor
function M.attention(q, k, v, scale)
  return produce("mb_attention", need_tensor("mb.attention", "q", q), need_tensor("mb.attention", "k", k),
                 need_tensor("mb.attention", "v", v), scale or 0)
end

--- Causal attention over queries, keys and values side by side: qkv (B, T, 3 C) -> (B, T, C).
---@param qkv moonbow.Tensor
---@param n_head integer which divides C
---@param scale? number default 1 / sqrt(C / n_head)
---@return moonbow.Tensor
function M.attention_packed(qkv, n_head, scale)
  return produce("mb_attention_packed", need_tensor("mb.attention_packed", "qkv", qkv),
                 need_number("mb.attention_packed", "n_head", n_head), scale or 0)
end

--- Causal attention for qkv (B, T, 3 C) of positions from `first` (counted from 0) on, the past in a cache (2, B, H, N, D) of
--- keys and values, which takes in the new ones. Not recorded.
---@param qkv moonbow.Tensor
---@param cache moonbow.Tensor
---@param first integer
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor (B, T, C)
function M.attention_cached(qkv, cache, first, scale)
  local who = "mb.attention_cached"
  return produce("mb_attention_cached", need_tensor(who, "qkv", qkv), need_tensor(who, "cache", cache),
                 need_number(who, "first", first), scale or 0)
end

--- Zeroes with probability p and scales the rest by 1 / (1 - p). Takes one random stream.
---@param a moonbow.Tensor
---@param p number in [0, 1)
---@return moonbow.Tensor
function M.dropout(a, p)
  return produce("mb_dropout", need_tensor("mb.dropout", "a", a), need_number("mb.dropout", "p", p))
end

local reductions = { mean = tonumber(C.MB_MEAN), sum = tonumber(C.MB_SUM) }
local ce_options = ffi.new "mb_cross_entropy_options"

--- The engine's options of a cross entropy, shared by every call.
---@param label_smoothing? number
---@param ignore_index? integer an id, counted from 0; nil ignores none
---@param reduce? "mean"|"sum"
---@param scale? number
function M.cross_entropy_options(label_smoothing, ignore_index, reduce, scale)
  ce_options.label_smoothing = label_smoothing or 0
  ce_options.ignore_index = ignore_index or -1
  ce_options.reduction = reductions[reduce or "mean"]
    or fail("mb.cross_entropy: reduction must be 'mean' or 'sum', not %s", describe(reduce))
  ce_options.scale = scale or 1
  return ce_options
end

--- logits (..., V), targets (...) of ids -> a tensor without dimensions; mb.cross_entropy has options by name.
---@param logits moonbow.Tensor
---@param targets moonbow.Tensor
---@param label_smoothing? number
---@param ignore_index? integer
---@param reduce? "mean"|"sum"
---@param scale? number by which the loss is multiplied
---@return moonbow.Tensor
function M.cross_entropy(logits, targets, label_smoothing, ignore_index, reduce, scale)
  return produce("mb_cross_entropy", need_tensor("mb.cross_entropy", "logits", logits),
                 need_tensor("mb.cross_entropy", "targets", targets),
                 M.cross_entropy_options(label_smoothing, ignore_index, reduce, scale))
end

--- The same of the logits x W^T in chunks of rows, x (..., C), weight (V, C); mb.linear_cross_entropy has options by name.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param targets moonbow.Tensor
---@param chunks integer
---@param label_smoothing? number
---@param ignore_index? integer
---@param reduce? "mean"|"sum"
---@param scale? number
---@return moonbow.Tensor
function M.linear_cross_entropy(x, weight, targets, chunks, label_smoothing, ignore_index, reduce, scale)
  local who = "mb.linear_cross_entropy"
  return produce("mb_linear_cross_entropy", need_tensor(who, "x", x), need_tensor(who, "weight", weight),
                 need_tensor(who, "targets", targets), chunks,
                 M.cross_entropy_options(label_smoothing, ignore_index, reduce, scale))
end

-- ----- shapes -----------------------------------------------------------------------------------------

-- Sizes given as arguments or as one array.
local function sizes(first, ...)
  if type(first) == "table" then return first end
  return { first, ... }
end

--- Same elements in another shape; one size may be -1. A view where the layout allows one.
---@param a moonbow.Tensor
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function M.reshape(a, ...)
  need_tensor("mb.reshape", "a", a)
  local n, shape = types.shape("mb.reshape", sizes(...))
  return produce("mb_reshape", a, n, shape)
end

--- All elements in one dimension, in the order of rows.
---@param a moonbow.Tensor
---@return moonbow.Tensor
function M.flatten(a)
  return M.reshape(a, -1)
end

--- A view broadcast to a shape.
---@param a moonbow.Tensor
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function M.expand(a, ...)
  need_tensor("mb.expand", "a", a)
  local n, shape = types.shape("mb.expand", sizes(...))
  return produce("mb_expand", a, n, shape)
end

--- A view with two dimensions exchanged; the last two if none are named.
---@param a moonbow.Tensor
---@param dim1? integer
---@param dim2? integer
---@return moonbow.Tensor
function M.transpose(a, dim1, dim2)
  local who = "mb.transpose"
  need_tensor(who, "a", a)
  return produce("mb_transpose", a, types.dim(who, dim1 or -2, a), types.dim(who, dim2 or -1, a))
end

--- A view with its dimensions in the given order: permute(a, 2, 1) transposes a matrix.
---@param a moonbow.Tensor
---@param ... integer|integer[] dimensions, or one array of them
---@return moonbow.Tensor
function M.permute(a, ...)
  need_tensor("mb.permute", "a", a)
  local n, dims = types.dims("mb.permute", sizes(...), a)
  return produce("mb_permute", a, n, dims)
end

--- A view of positions first..last of a dimension, as string.sub counts: from 1, the last one included,
--- negative ones from the end.
---@param a moonbow.Tensor
---@param dim integer
---@param first? integer default 1
---@param last? integer default: the last
---@param step? integer default 1
---@return moonbow.Tensor
function M.slice(a, dim, first, last, step)
  need_tensor("mb.slice", "a", a)
  local d = types.dim("mb.slice", dim, a)
  local n = tonumber(C.mb_tensor_shape(a)[d])
  local start = types.from_one("mb.slice", "position", first or 1, n)
  local stop = types.from_one("mb.slice", "position", last or n, n) + 1
  return produce("mb_slice", a, d, start, stop, step or 1)
end

--- The slice at one position of a dimension, without that dimension: select(a, 1, 3) is the third row.
---@param a moonbow.Tensor
---@param dim integer
---@param position integer
---@return moonbow.Tensor
function M.select(a, dim, position)
  need_tensor("mb.select", "a", a)
  local d = types.dim("mb.select", dim, a)
  local shape = types.shape_of(a)
  local at = types.from_one("mb.select", "position", position, shape[d + 1])
  table.remove(shape, d + 1)
  return M.reshape(produce("mb_slice", a, d, at, at + 1, 1), shape)
end

--- The same elements with a dimension of size 1 put at `dim`.
---@param a moonbow.Tensor
---@param dim integer
---@return moonbow.Tensor
function M.unsqueeze(a, dim)
  need_tensor("mb.unsqueeze", "a", a)
  local shape = types.shape_of(a)
  table.insert(shape, types.from_one("mb.unsqueeze", "dimension", dim, #shape + 1) + 1, 1)
  return M.reshape(a, shape)
end

--- Without dimension `dim`, which has size 1; without any such dimension if none is named.
---@param a moonbow.Tensor
---@param dim? integer
---@return moonbow.Tensor
function M.squeeze(a, dim)
  need_tensor("mb.squeeze", "a", a)
  local from, shape = types.shape_of(a), {}
  local at = dim and types.dim("mb.squeeze", dim, a) + 1
  for i = 1, #from do
    if at == i and from[i] ~= 1 then fail("mb.squeeze: dimension %d has size %d, not 1", dim, from[i]) end
    if not (from[i] == 1 and (at == nil or at == i)) then shape[#shape + 1] = from[i] end
  end
  return M.reshape(a, shape)
end

local tensor_array = ffi.typeof "mb_tensor *[?]"

-- Tensors of a Lua array as a C array, which holds no references: the caller keeps the Lua array.
local function pointers(who, list)
  if type(list) ~= "table" or #list == 0 then
    fail("%s: an array of tensors was expected, not %s", who, describe(list))
  end
  local array = tensor_array(#list)
  for i = 1, #list do array[i - 1] = need_tensor(who, "tensor " .. i, list[i]) end
  return array, #list
end
M.pointers = pointers

--- Joins tensors along a dimension.
---@param tensors moonbow.Tensor[]
---@param dim? integer default 1
---@return moonbow.Tensor
function M.concat(tensors, dim)
  local array, n = pointers("mb.concat", tensors)
  local result = produce("mb_concat", array, n, types.dim("mb.concat", dim or 1, tensors[1]))
  return result
end

--- Joins tensors of one shape along a new dimension.
---@param tensors moonbow.Tensor[]
---@param dim? integer default 1
---@return moonbow.Tensor
function M.stack(tensors, dim)
  pointers("mb.stack", tensors)
  local wide = {}
  for i = 1, #tensors do wide[i] = M.unsqueeze(tensors[i], dim or 1) end
  return M.concat(wide, dim or 1)
end

--- out[i][j] = a[index[i][j]][j] for dim 1, and so on; index (i32) counts from 0, being data.
---@param a moonbow.Tensor
---@param dim integer
---@param index moonbow.Tensor
---@return moonbow.Tensor
function M.gather(a, dim, index)
  need_tensor("mb.gather", "a", a)
  return produce("mb_gather", a, types.dim("mb.gather", dim, a), need_tensor("mb.gather", "index", index))
end

--- A copy.
---@param a moonbow.Tensor
---@return moonbow.Tensor
function M.clone(a) return produce("mb_clone", need_tensor("mb.clone", "a", a)) end
--- The elements in the order of rows: a copy, or `a` itself where they lie so.
---@param a moonbow.Tensor
---@return moonbow.Tensor
function M.contiguous(a) return produce("mb_contiguous", need_tensor("mb.contiguous", "a", a)) end
--- Same memory, no history.
---@param a moonbow.Tensor
---@return moonbow.Tensor
function M.detach(a) return produce("mb_detach", need_tensor("mb.detach", "a", a)) end

--- The tensor as another dtype, or on another device; `a` itself if it is so already.
---@param a moonbow.Tensor
---@param name "f32"|"f64"|"bf16"|"i32"|"u16"|"u8"|"cpu"|"cuda" a dtype or a device
---@param rounding? "nearest"|"stochastic" to bf16: to one of the two neighbours at random, so that the mean is the element
---@return moonbow.Tensor
function M.to(a, name, rounding)
  need_tensor("mb.to", "a", a)
  if rounding ~= nil and rounding ~= "nearest" then
    if rounding ~= "stochastic" then fail("mb.to: rounding must be nearest or stochastic, not %s", describe(rounding)) end
    if name ~= "bf16" then fail("mb.to: stochastic rounding goes to bf16, not to %s", describe(name)) end
    return produce("mb_round_stochastic", a)
  end
  if types.dtypes[name] then
    if types.dtype_of(a).name == name then return a end
    return produce("mb_cast", a, types.dtypes[name].code)
  end
  if name == types.device_of(a) then return a end
  if name ~= "cpu" and name ~= "cuda" then
    fail("mb.to: expected a dtype (f32, f64, bf16, i32, u16, u8) or a device (cpu, cuda), not %s", describe(name))
  end
  return produce("mb_to_device", a, types.device(name))
end

return M
