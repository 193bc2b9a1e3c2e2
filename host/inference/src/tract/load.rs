//! From a decoded file to a network that can be run: analysis of shapes, optimisation, description of the tensors.

use modelhost_core::{MAX_RANK, TensorDescription};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModel, InferenceModelExt, SpecialOps, Symbol, TDim, TractResult,
    TypedModel, TypedSimplePlan,
};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::infer::{Factoid, GenericFactoid, InferenceFact, ShapeFactoid};

use super::memory::MemoryPlan;
use super::network::{Network, PerShape, Plans};
use super::run::{Plan, root_cause};
use super::symbols::InputSymbols;
use super::{Proven, classical, constants, faster, independence, tensors, texts};
use crate::engine::LoadError;
use crate::onnx;

/// Extents that are tried for every free dimension of a network that cannot be optimised while they are free.
const PROBES: [i64; 6] = [1, 2, 4, 8, 16, 32];

/// What bounds the memory of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlanLimits {
    /// The limit of [`constants::check`].
    pub(super) max_constant_bytes: u64,
    /// Bytes of the longest text in the graph.
    pub(super) longest_text: u64,
}

/// A way to make a network.
type Attempt = fn(Parsed, PlanLimits) -> Result<Network, LoadError>;

/// Loads a network whose operators were checked.
pub(super) fn load(proto: &ModelProto, max_constant_bytes: u64) -> Result<Network, LoadError> {
    let limits = PlanLimits { max_constant_bytes, longest_text: onnx::longest_text(proto) };
    let attempts: [Attempt; 2] = [symbolic, per_shape];
    let mut first_error = None;
    for attempt in attempts {
        // Converters declare shapes inside the network that are not true: without them the network may still load.
        for ignore_value_info in [false, true] {
            match Parsed::new(proto, ignore_value_info).and_then(|parsed| attempt(parsed, limits)) {
                Ok(network) => return Ok(network),
                Err(error @ LoadError::TooLarge { .. }) => return Err(error),
                Err(error) => first_error.get_or_insert(error),
            };
        }
    }
    Err(first_error.unwrap_or_else(|| unsupported("no attempt was made")))
}

/// What is proven of a network for an engine that runs it as the file says it, whatever shapes the file declares inside, if
/// all its operators are known.
pub(super) fn prove(proto: &ModelProto, max_constant_bytes: u64) -> Proven {
    let limits = PlanLimits { max_constant_bytes, longest_text: onnx::longest_text(proto) };
    let parsed = Parsed::new(proto, true).ok();
    let checked = parsed.filter(|parsed| constants::check(&parsed.model, limits).is_ok());
    let typed = checked.and_then(|parsed| Some((typed(parsed.model).ok()?, parsed.symbols)));
    let Some((model, symbols)) = typed else { return Proven::default() };
    Proven {
        rows_are_independent: independence::rows_are_independent(&model),
        time_follows_from_extents: MemoryPlan::of_extents(&model, symbols.symbols()).is_ok(),
    }
}

/// The plan of a network whose free extents are these.
pub(super) fn plan_for(
    template: &InferenceModel,
    symbols: &InputSymbols,
    extents: &[i64],
    limits: PlanLimits,
) -> Result<Plan, LoadError> {
    let mut model = template.clone();
    model
        .set_symbols(&symbols.values(extents).to_dim_map())
        .map_err(|error| unsupported(root_cause(&error)))?;
    plan(model, &[], limits)
}

struct Parsed {
    model: InferenceModel,
    inputs: Vec<TensorDescription>,
    output_names: Vec<String>,
    symbols: InputSymbols,
}

impl Parsed {
    fn new(proto: &ModelProto, ignore_value_info: bool) -> Result<Parsed, LoadError> {
        let parser = classical::onnx().with_ignore_value_info(ignore_value_info);
        let parsed = parser.model_for_proto_model(proto);
        let mut model = parsed.map_err(|error| unsupported(root_cause(&error)))?;
        let output_names = proto.graph.iter().flat_map(|graph| &graph.output);
        let output_names = output_names.map(|output| output.name.clone()).collect();
        let (inputs, dimensions) = name_free_extents(&mut model)?;
        Ok(Parsed { model, inputs, output_names, symbols: InputSymbols::new(&dimensions) })
    }
}

type Dimensions = Vec<Vec<Option<Symbol>>>;

/// Describes the inputs, and gives every extent that is not a number a symbol.
fn name_free_extents(model: &mut InferenceModel) -> Result<(Vec<TensorDescription>, Dimensions), LoadError> {
    let mut descriptions = Vec::new();
    let mut dimensions = Vec::new();
    for outlet in model.inputs.clone() {
        let name = model.node(outlet.node).name.clone();
        let fact = model.outlet_fact(outlet).map_err(|error| unsupported(root_cause(&error)))?.clone();
        let free = free_extents(model, &name, &fact)?;
        let datum_type = fact.datum_type.concretize();
        let datatype = datum_type.and_then(tensors::datatype);
        let datatype = datatype.ok_or_else(|| unsupported_type("input", &name, datum_type))?;
        let shape = free.iter().map(|dimension| dimension.as_i64().unwrap_or(-1)).collect();
        descriptions.push(TensorDescription { name, datatype, shape });
        dimensions.push(free.iter().map(symbol_of).collect());
        let shape = ShapeFactoid::closed(free.into_iter().map(GenericFactoid::Only).collect());
        model
            .set_outlet_fact(outlet, fact.with_shape(shape))
            .map_err(|error| unsupported(root_cause(&error)))?;
    }
    Ok((descriptions, dimensions))
}

fn free_extents(model: &InferenceModel, name: &str, fact: &InferenceFact) -> Result<Vec<TDim>, LoadError> {
    let rank = fact.shape.rank().concretize();
    let rank = rank.ok_or_else(|| unsupported(format!("input {name:?} has no shape, not even a rank")))?;
    let rank = usize::try_from(rank).unwrap_or(usize::MAX);
    if rank > MAX_RANK {
        return Err(unsupported(format!(
            "input {name:?} has {rank} dimensions: at most {MAX_RANK} are supported"
        )));
    }
    let dimensions = fact.shape.dims().map(|dimension| match dimension.concretize() {
        Some(known @ (TDim::Val(_) | TDim::Sym(_))) => known,
        // Unknown, or an expression such as 2*n: free in its own right.
        _ => TDim::Sym(model.symbols.new_with_prefix("free")),
    });
    Ok(dimensions.collect())
}

fn symbol_of(dimension: &TDim) -> Option<Symbol> {
    match dimension {
        TDim::Sym(symbol) => Some(symbol.clone()),
        _ => None,
    }
}

/// One plan for all extents.
fn symbolic(parsed: Parsed, limits: PlanLimits) -> Result<Network, LoadError> {
    let plan = plan(parsed.model, parsed.symbols.symbols(), limits)?;
    let outputs = describe_outputs(plan.model(), parsed.output_names, |_, _, dimension| dimension.as_i64())?;
    Ok(Network { inputs: parsed.inputs, outputs, symbols: parsed.symbols, plans: Plans::Symbolic(plan) })
}

/// A plan for each combination of extents; one is made now, to see that the network can be run at all.
fn per_shape(parsed: Parsed, limits: PlanLimits) -> Result<Network, LoadError> {
    let free = parsed.symbols.symbols().len();
    if free == 0 {
        return Err(unsupported("there are no free extents to fix"));
    }
    let plans = PerShape::new(parsed.model.clone(), limits);
    let mut result = Err(unsupported("no extents were tried"));
    for extent in PROBES {
        result = plan_for(&parsed.model, &parsed.symbols, &vec![extent; free], limits);
        if matches!(result, Ok(_) | Err(LoadError::TooLarge { .. })) {
            break;
        }
    }
    let mut analysed = parsed.model;
    // Whatever could be found out is used; a network that ends up here cannot be analysed completely.
    let _ = analysed.analyse(true);
    let known = |output: usize, axis: usize| -> Option<i64> {
        analysed.output_fact(output).ok()?.shape.dim(axis)?.concretize()?.as_i64()
    };
    let outputs =
        describe_outputs(result?.model(), parsed.output_names, |output, axis, _| known(output, axis))?;
    Ok(Network { inputs: parsed.inputs, outputs, symbols: parsed.symbols, plans: Plans::PerShape(plans) })
}

/// `extent` gives the extent of an output along an axis, where it is known before a run.
fn describe_outputs(
    model: &TypedModel,
    names: Vec<String>,
    extent: impl Fn(usize, usize, &TDim) -> Option<i64>,
) -> Result<Vec<TensorDescription>, LoadError> {
    let mut descriptions = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let fact = model.output_fact(index).map_err(|error| unsupported(root_cause(&error)))?;
        let datatype = tensors::datatype(fact.datum_type);
        let datatype = datatype.ok_or_else(|| unsupported_type("output", &name, Some(fact.datum_type)))?;
        let dimensions = fact.shape.iter().enumerate();
        let shape =
            dimensions.map(|(axis, dimension)| extent(index, axis, dimension).unwrap_or(-1)).collect();
        descriptions.push(TensorDescription { name, datatype, shape });
    }
    Ok(descriptions)
}

/// Analyses, optimises and orders a network. Only `symbols` may be left free.
fn plan(model: InferenceModel, symbols: &[Symbol], limits: PlanLimits) -> Result<Plan, LoadError> {
    constants::check(&model, limits)?;
    let typed = typed(model).map_err(|error| unsupported(root_cause(&error)))?;
    let rows_are_independent = independence::rows_are_independent(&typed);
    let optimised = faster::before_optimisation(typed).into_optimized();
    let optimised = optimised.map_err(|error| unsupported(root_cause(&error)))?;
    texts::check(&optimised).map_err(unsupported)?;
    let plan = TypedSimplePlan::new(faster::optimised(optimised));
    let plan = plan.map_err(|error| unsupported(root_cause(&error)))?;
    let memory = MemoryPlan::new(&plan, symbols).map_err(unsupported)?;
    Ok(Plan::new(plan, memory, limits.longest_text, rows_are_independent))
}

/// The network in operators whose meaning is known, before they are replaced by those of this processor.
fn typed(model: InferenceModel) -> TractResult<TypedModel> {
    let mut model = model.into_typed()?;
    cast_dimensions(&mut model)?;
    model.declutter()?;
    Ok(model)
}

/// Shapes and indices are symbolic expressions inside tract. Outputs of this type become numbers inside the network,
/// where the extents of the run are known.
fn cast_dimensions(model: &mut TypedModel) -> TractResult<()> {
    let mut outputs = model.outputs.clone();
    for outlet in &mut outputs {
        if model.outlet_fact(*outlet)?.datum_type == DatumType::TDim {
            let name = format!("{}.as-int64", model.node(outlet.node).name);
            *outlet = model.wire_node(name, cast(DatumType::I64), &[*outlet])?[0];
        }
    }
    model.select_output_outlets(&outputs)
}

fn unsupported_type(role: &str, name: &str, datum_type: Option<DatumType>) -> LoadError {
    let datum_type = datum_type.map_or_else(|| "unknown".to_owned(), |datum_type| format!("{datum_type:?}"));
    unsupported(format!(
        "{role} {name:?} has the element type {datum_type}, which the engine tract does not take"
    ))
}

fn unsupported(reason: impl Into<String>) -> LoadError {
    LoadError::Unsupported { reason: reason.into() }
}
