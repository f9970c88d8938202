---@meta _
-- SPDX-License-Identifier: MIT
--
-- optim.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.optim
local mb_optim = {}

--- One optimizer made of several, each for its own parameters.
---@param model moonbow.Model
---@param list { where: string|function|table, name: string|moonbow.OptimizerConstructor }[] with each one's own options
---@return moonbow.Optimizer
function mb_optim.groups(model, list) end

---@class moonbow.adagrad.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-2
---@field lr_decay? number|fun(step: integer): number default 0
---@field initial? number|fun(step: integer): number default 0
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-10
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- The gradient over the root of the sum of its squares, as torch.optim.Adagrad.
---@param model moonbow.Model
---@param options? moonbow.adagrad.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.adagrad(model, options) end

---@class moonbow.adam.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.999 }
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Adam with coupled weight decay, as torch.optim.Adam.
---@param model moonbow.Model
---@param options? moonbow.adam.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.adam(model, options) end

---@class moonbow.adamw.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.999 }
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 1e-2

--- Adam with decoupled weight decay, as torch.optim.AdamW.
---@param model moonbow.Model
---@param options? moonbow.adamw.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.adamw(model, options) end

---@class moonbow.clipped_scion.Options
---@field rho? number|fun(step: integer): number default 40
---@field constrained? boolean default false
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Steps of bounded norm by layers, shortened where the gradient is small: Scion with generalized gradient
--- norm clipping, in the authors' form.
---@param model moonbow.Model
---@param options? moonbow.clipped_scion.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.clipped_scion(model, options) end

---@class moonbow.clipped_sign.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-4
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.1
---@field rho? number|fun(step: integer): number default 1
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Sign descent whose step shrinks with the gradient: generalized gradient norm clipping of the largest entry.
---@param model moonbow.Model
---@param options? moonbow.clipped_sign.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.clipped_sign(model, options) end

---@class moonbow.clipped_spectral.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.1
---@field rho? number|fun(step: integer): number default 1
---@field scope? "global"|"matrix" default "global"
---@field msign? string default "ns5"
---@field steps? number|fun(step: integer): number default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Spectral descent whose step shrinks with the gradient: generalized gradient norm clipping of the
--- largest singular value, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.clipped_spectral.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.clipped_spectral(model, options) end

---@class moonbow.ggnc.Options
---@field rho? number|fun(step: integer): number default 1
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Generalized gradient norm clipping, algorithm 1 of arXiv 2506.01913: as long as the gradient's dual norm is below
--- rho the step is steepest descent of the norm, above it a step of fixed length.
---@param model moonbow.Model
---@param options? moonbow.ggnc.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.ggnc(model, options) end

---@class moonbow.lamb.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.999 }
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-6
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0.01

--- Adam's direction at a length that follows each parameter's.
---@param model moonbow.Model
---@param options? moonbow.lamb.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.lamb(model, options) end

---@class moonbow.lars.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.1
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field trust_coefficient? number|fun(step: integer): number default 1e-3
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- SGD whose rate follows the length of each parameter.
---@param model moonbow.Model
---@param options? moonbow.lars.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.lars(model, options) end

---@class moonbow.lion.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-4
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.99 }
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Steps along the sign of a mean of momentum and gradient; the momentum itself forgets more slowly.
---@param model moonbow.Model
---@param options? moonbow.lion.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.lion(model, options) end

---@class moonbow.mucon.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field tau? number|fun(step: integer): number default 1
---@field nesterov? boolean looks one step ahead; default false
---@field form? string default "lerp"
---@field scale? "none"|unpack(muon.limits.scale.choices) default "none"
---@field method? "exact"|"polar"|"soft" default "polar"
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Muon with its momentum clipped instead of made orthogonal, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.mucon.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.mucon(model, options) end

---@class moonbow.muon.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field nesterov? boolean looks one step ahead; default false
---@field form? "lerp"|"jordan" default "lerp"
---@field scale? "match_rms_adamw"|"original"|"spectral" default "match_rms_adamw"
---@field msign? string default "ns5"
---@field steps? number|fun(step: integer): number default 5
---@field precision? "auto"|"f32"|"tf32"|"bf16"|"f16" default "auto"
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Momentum made orthogonal, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.muon.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.muon(model, options) end

---@class moonbow.normalized_gd.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field scope? "group"|"parameter" default "group"

--- Steps of one length along the gradient, or along its moving average.
---@param model moonbow.Model
---@param options? moonbow.normalized_gd.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.normalized_gd(model, options) end

---@class moonbow.rmsprop.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-2
---@field alpha? number|fun(step: integer): number default 0.99
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0
---@field centered? boolean default false
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- The gradient over the root of its mean square, as torch.optim.RMSprop.
---@param model moonbow.Model
---@param options? moonbow.rmsprop.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.rmsprop(model, options) end

---@class moonbow.scion.Options
---@field constrained? boolean default false
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Steps along the oracle of each layer's norm.
---@param model moonbow.Model
---@param options? moonbow.scion.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.scion(model, options) end

---@class moonbow.scion_light.Options
---@field constrained? boolean default false
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Scion without a buffer: the gradient's own memory holds the average.
---@param model moonbow.Model
---@param options? moonbow.scion_light.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.scion_light(model, options) end

---@class moonbow.sgd.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0
---@field nesterov? boolean looks one step ahead; default false
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Stochastic gradient descent with momentum, as torch.optim.SGD (dampening 0).
---@param model moonbow.Model
---@param options? moonbow.sgd.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.sgd(model, options) end

---@class moonbow.shampoo.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.1
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field beta2? number|fun(step: integer): number default 1
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-4
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field every? number|fun(step: integer): number default 1
---@field max_side? number|fun(step: integer): number default 8192
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Gradients scaled from both sides by roots of what they have been, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.shampoo.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.shampoo(model, options) end

---@class moonbow.short_step.Options
---@field rho? number|fun(step: integer): number default 1
---@field beta? number|fun(step: integer): number default 1
---@field variant? number|fun(step: integer): number default 2
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- The short step of conditional gradients, clipped: algorithm 2 of arXiv 2506.01913. Weight decay is a part of
--- it: weights stay in the ball of radius beta, if they begin there, lr rho is at most 1 and msign is exact.
---@param model moonbow.Model
---@param options? moonbow.short_step.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.short_step(model, options) end

---@class moonbow.signsgd.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Steps along the sign of the gradient.
---@param model moonbow.Model
---@param options? moonbow.signsgd.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.signsgd(model, options) end

---@class moonbow.signum.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Steps along the sign of a moving average of the gradients.
---@param model moonbow.Model
---@param options? moonbow.signum.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.signum(model, options) end

---@class moonbow.soap.Options
---@field lr? number|fun(step: integer): number learning rate; default 3e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.95, 0.95 }
---@field shampoo_beta? number|fun(step: integer): number default 0.95
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0.01
---@field every? number|fun(step: integer): number default 10
---@field max_side? number|fun(step: integer): number default 8192
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Adam in the eigenbasis of Shampoo's matrices, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.soap.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.soap(model, options) end

--- An optimizer whose every step clips its updates.
---@param model moonbow.Model
---@param options moonbow.SpectraOptions
---@return moonbow.Optimizer
function mb_optim.spectra(model, options) end

---@class moonbow.spectral_descent.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 1
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field msign? string default "ns5"
---@field steps? number|fun(step: integer): number default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Stochastic spectral descent, for hidden matrices and filters: the steepest descent of the largest
--- singular value.
---@param model moonbow.Model
---@param options? moonbow.spectral_descent.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.spectral_descent(model, options) end

---@class moonbow.schedule
local mb_schedule = {}

--- One number for all steps, after an optional warm-up.
---@param given number|{ value: number, warmup?: integer }
---@return moonbow.Schedule
function mb_schedule.const(given) end

--- Linear warm-up, then half a cosine (Loshchilov and Hutter 2017, without restarts).
---@param given moonbow.ScheduleOptions
---@return moonbow.Schedule
function mb_schedule.cosine(given) end

--- Linear warm-up, then decay by the square root of the step (Vaswani et al. 2017, section 5.3, scaled
--- so that the peak is `peak`).
---@param given { peak: number, warmup?: integer }
---@return moonbow.Schedule
function mb_schedule.inverse_sqrt(given) end

--- Linear warm-up, then linear decay.
---@param given moonbow.ScheduleOptions
---@return moonbow.Schedule
function mb_schedule.linear(given) end

--- Up and down once (Smith and Topin 2017), as torch.optim.lr_scheduler.OneCycleLR with two phases.
---@param given moonbow.OneCycleOptions
---@return moonbow.Schedule
function mb_schedule.one_cycle(given) end

--- The other name of wsd.lua with its linear fall.
---@param given moonbow.TrapezoidalOptions
---@return moonbow.Schedule
function mb_schedule.trapezoidal(given) end

--- Warm-up, stable, decay: a trapezoid (Hu et al. 2024, MiniCPM; Hägele et al. 2024).
---@param given moonbow.WsdOptions
---@return moonbow.Schedule
function mb_schedule.wsd(given) end

