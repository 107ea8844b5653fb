//! Rows of every type, drawn from what goes wrong.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray,
    PrimitiveArray, StringArray, StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use asof_compute::{Input, Op, Position, RowDigest, RowOrder, arrow_type};
use asof_model::{DataType, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Every type there is, and some made of others.
pub(super) fn types() -> Vec<DataType> {
    let plain = [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
        "decimal(10,2)",
        "decimal(38,0)",
        "string",
        "bytes",
        "date",
        "timestamp",
        "uuid",
        "json",
        "list<int64>",
        "list<string>",
        "struct<a: float64, b: list<bytes>>",
    ];
    let types: Vec<DataType> = plain.iter().map(|text| DataType::parse(text).unwrap()).collect();
    for name in DataType::names() {
        let name = name.split(['(', '<']).next().unwrap();
        assert!(plain.iter().any(|text| text.starts_with(name)), "{name} is not among the types");
    }
    types
}

/// Numbers that look random and are the same each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// How many values there are of each type, the first of them those at the edges.
const VALUES: usize = 300;

fn primitive<T: ArrowPrimitiveType>(
    of: &DataType,
    edges: &[T::Native],
    mut other: impl FnMut() -> T::Native,
) -> ArrayRef {
    let values = edges.iter().copied().chain(std::iter::from_fn(|| Some(other()))).take(VALUES);
    Arc::new(PrimitiveArray::<T>::from_iter_values(values).with_data_type(arrow_type(of)))
}

fn texts() -> Vec<Vec<u8>> {
    let mut random = Random(3);
    let mut texts: Vec<Vec<u8>> =
        ["", "a", "a\0", "a\0\0b", "ab", "b", "é", "fifteen letters", "sixteen letters!", "sixteen letters?"]
            .map(|text| text.as_bytes().to_vec())
            .to_vec();
    while texts.len() < VALUES {
        let length = random.below(40);
        texts.push((0..length).map(|_| b"abcdefgh"[random.below(8)]).collect());
    }
    texts
}

fn list(items: ArrayRef, lengths: &[usize]) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    Arc::new(ListArray::new(field, offsets, items, None))
}

/// The values of a type.
fn pool(of: &DataType) -> ArrayRef {
    let mut random = Random(11);
    macro_rules! whole {
        ($kind:ty, $native:ty) => {
            primitive::<$kind>(of, &[0, 1, <$native>::MAX, <$native>::MIN, 2, <$native>::MAX - 1, 3], || {
                let bits = random.next();
                (if bits & 1 == 0 { bits >> 8 } else { bits >> 54 }) as $native
            })
        };
    }
    match of {
        DataType::Bool => Arc::new((0..VALUES).map(|at| Some(at % 2 == 1)).collect::<BooleanArray>()),
        DataType::Int8 => whole!(Int8Type, i8),
        DataType::Int16 => whole!(Int16Type, i16),
        DataType::Int32 => whole!(Int32Type, i32),
        DataType::Int64 => whole!(Int64Type, i64),
        DataType::UInt8 => whole!(UInt8Type, u8),
        DataType::UInt16 => whole!(UInt16Type, u16),
        DataType::UInt32 => whole!(UInt32Type, u32),
        DataType::UInt64 => whole!(UInt64Type, u64),
        DataType::Float32 => primitive::<Float32Type>(of, &FLOATS.map(|value| value as f32), || {
            let bits = random.next();
            if bits & 1 == 0 { f32::from_bits((bits >> 8) as u32) } else { (bits >> 50) as f32 / 100.0 }
        }),
        DataType::Float64 => primitive::<Float64Type>(of, &FLOATS, || {
            let bits = random.next();
            if bits & 1 == 0 {
                f64::from_bits(random.next())
            } else {
                ((bits >> 48) as f64 - 32_768.0) / 100.0
            }
        }),
        DataType::Decimal { precision, .. } => {
            let end = 10_i128.pow(u32::from(*precision)) - 1;
            primitive::<Decimal128Type>(of, &[0, 1, -1, end, -end, 100], || {
                i128::from(random.next().cast_signed()) % (end + 1)
            })
        }
        DataType::String => {
            let texts = texts();
            Arc::new(StringArray::from_iter_values(
                texts.iter().map(|text| std::str::from_utf8(text).unwrap()),
            ))
        }
        DataType::Json => {
            let texts = (0..VALUES).map(|at| match at % 3 {
                0 => format!("{{\"a\": {at}}}"),
                1 => "[]".to_owned(),
                _ => at.to_string(),
            });
            Arc::new(StringArray::from_iter_values(texts))
        }
        DataType::Bytes => {
            let bytes = texts().into_iter().chain([vec![0], vec![0, 255], vec![255, 0, 0]]).rev();
            Arc::new(BinaryArray::from_iter_values(bytes.take(VALUES)))
        }
        DataType::Date => {
            let mut day = || (random.next() % 3_652_059) as i32 - 719_162;
            primitive::<Date32Type>(of, &[0, -1, -719_162, 2_932_896], &mut day)
        }
        DataType::Timestamp => {
            let mut time = || (random.next() % 315_537_897_600_000_000) as i64 - 62_135_596_800_000_000;
            primitive::<TimestampMicrosecondType>(
                of,
                &[0, -1, -62_135_596_800_000_000, 253_402_300_799_999_999],
                &mut time,
            )
        }
        DataType::Uuid => {
            let bytes = (0..VALUES as u128).map(|at| match at {
                0 => [0; 16],
                1 => [255; 16],
                _ => (u128::from(random.next()) << 64 | at).to_be_bytes(),
            });
            Arc::new(FixedSizeBinaryArray::try_from_iter(bytes).unwrap())
        }
        DataType::List(item) => {
            let lengths: Vec<usize> =
                [0, 1, 1, 2].into_iter().chain((0..).map(|_| random.below(4))).take(VALUES).collect();
            let items = (0..lengths.iter().sum()).map(|at| if at % 5 == 0 { None } else { Some(at % 50) });
            list(picked(&pool(item), &items.collect::<Vec<_>>()), &lengths)
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().enumerate().map(|(number, (name, of))| {
                let picks: Vec<Option<usize>> = (0..VALUES)
                    .map(|at| if (at + number) % 7 == 0 { None } else { Some(at % (20 + number)) })
                    .collect();
                (Arc::new(Field::new(name, arrow_type(of), true)), picked(&pool(of), &picks))
            });
            Arc::new(StructArray::from(fields.collect::<Vec<_>>()))
        }
    }
}

const FLOATS: [f64; 22] = [
    0.0,
    -0.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -f64::NAN,
    1.0,
    -1.0,
    0.1,
    0.2,
    0.3,
    1e16,
    -1e16,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    1e300,
    -1e300,
    2.5,
];

static POOLS: LazyLock<Vec<(DataType, ArrayRef)>> =
    LazyLock::new(|| types().into_iter().map(|of| (of.clone(), pool(&of))).collect());

/// Where in [`cancelling`] a value's opposite stands.
const OPPOSITE: usize = VALUES / 2;

/// Floats from all over the range of exponents, and of each its opposite: of every other one not quite, so that what is
/// left of the two is as small as it can be.
fn cancelling() -> [Vec<f64>; 2] {
    let mut random = Random(17);
    let mut drawn = |finite: &dyn Fn(u64) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = Vec::with_capacity(VALUES);
        while values.len() < OPPOSITE {
            values.extend(finite(random.next()));
        }
        values
    };
    let mut doubles = drawn(&|bits| Some(f64::from_bits(bits)).filter(|value| value.is_finite()));
    let mut singles =
        drawn(&|bits| Some(f32::from_bits(bits as u32)).filter(|value| value.is_finite()).map(f64::from));
    for at in 0..OPPOSITE {
        let off = (at % 2) as u64;
        doubles.push(-f64::from_bits(doubles[at].to_bits() ^ off));
        singles.push(-f64::from(f32::from_bits((singles[at] as f32).to_bits() ^ off as u32)));
    }
    [doubles, singles]
}

static CANCELLING: LazyLock<[ArrayRef; 2]> = LazyLock::new(|| {
    let [doubles, singles] = cancelling();
    let singles = singles.into_iter().map(|value| value as f32);
    [
        Arc::new(PrimitiveArray::<Float64Type>::from_iter_values(doubles)),
        Arc::new(PrimitiveArray::<Float32Type>::from_iter_values(singles)),
    ]
});

/// The values of a type that are picked: where they cancel, floats are picked from [`cancelling`].
fn column(of: &DataType, picks: &[Option<usize>], cancel: bool) -> ArrayRef {
    match of {
        DataType::Float64 if cancel => picked(&CANCELLING[0], picks),
        DataType::Float32 if cancel => picked(&CANCELLING[1], picks),
        _ => {
            let (_, pool) = POOLS.iter().find(|(known, _)| known == of).unwrap();
            picked(pool, picks)
        }
    }
}

fn picked(pool: &ArrayRef, picks: &[Option<usize>]) -> ArrayRef {
    let picks: UInt32Array = picks.iter().map(|pick| pick.map(|at| (at % VALUES) as u32)).collect();
    take(pool, &picks, None).unwrap()
}

/// Rows before they have values: which value each picks, and what else decides.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) picks: Vec<Option<usize>>,
    pub(super) times: Vec<i64>,
    pub(super) orders: Vec<RowOrder>,
    /// Whether floats come to nearly nothing together.
    pub(super) cancel: bool,
    /// For all that is chosen on the way.
    pub(super) seed: u64,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.picks.len()
    }

    /// As an aggregate of an argument reads them.
    pub(super) fn input(&self, argument: Option<&DataType>) -> Input {
        Input {
            values: argument.map(|of| column(of, &self.picks, self.cancel)),
            event_times: self.times.clone().into(),
            orders: self.orders.clone().into(),
        }
    }

    /// Those numbered so, in that order.
    pub(super) fn only(&self, rows: &[usize]) -> Rows {
        Rows {
            picks: rows.iter().map(|row| self.picks[*row]).collect(),
            times: rows.iter().map(|row| self.times[*row]).collect(),
            orders: rows.iter().map(|row| self.orders[*row].clone()).collect(),
            cancel: self.cancel,
            seed: self.seed,
        }
    }

    /// What they are, for a failure's text.
    pub(super) fn shown(&self, argument: Option<&DataType>) -> String {
        let mut text = String::new();
        let values = argument.map(|of| column(of, &self.picks, self.cancel));
        for row in 0..self.len() {
            let value = values.as_ref().map(|values| values.slice(row, 1));
            writeln!(text, "{value:?} at {}", self.times[row]).unwrap();
        }
        text
    }
}

/// A row: few different values or many, few different places or many.
fn row() -> impl Strategy<Value = (Option<usize>, i64, i64, u8)> {
    let pick =
        prop_oneof![1 => Just(None), 4 => (0..6_usize).prop_map(Some), 6 => (0..VALUES).prop_map(Some)];
    let time = prop_oneof![
        0..4_i64,
        -10_000_000_000..10_000_000_000_i64,
        -62_135_596_800_000_000..253_402_300_799_999_999_i64
    ];
    (pick, time, 0..3_i64, 0..3_u8)
}

/// So many rows.
fn rows(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Rows> {
    let cancel = prop::bool::weighted(0.25);
    (prop::collection::vec(row(), count), cancel, any::<u64>()).prop_map(|(mut rows, cancel, seed)| {
        if cancel {
            // Of every two rows, wherever they are, one takes back what the other brings.
            let mut random = Random(seed);
            let mut places: Vec<usize> = (0..rows.len()).collect();
            random.shuffle(&mut places);
            for pair in places.chunks(2) {
                let pick = random.below(OPPOSITE);
                for (row, pick) in pair.iter().zip([pick, pick + OPPOSITE]) {
                    rows[*row].0 = (pair.len() == 2).then_some(pick);
                }
            }
        }
        let orders = rows.iter().map(|(pick, time, late, tie)| RowOrder {
            event_time: Timestamp(*time),
            visible_at: Timestamp(time + late),
            order_by: vec![1; usize::from(*tie)].into(),
            position: if *tie == 0 { Position::NONE } else { Position(i64::from(*tie)) },
            op: Op::Value,
            digest: RowDigest([pick.unwrap_or(0) as u8 % 3; 16]),
        });
        Rows {
            orders: orders.collect(),
            picks: rows.iter().map(|row| row.0).collect(),
            times: rows.iter().map(|row| row.1).collect(),
            cancel,
            seed,
        }
    })
}

/// Asks something of so many drawn rows.
pub(super) fn each(cases: u32, count: impl Into<prop::collection::SizeRange>, ask: impl Fn(&Rows)) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let found = TestRunner::new(config).run(&rows(count), |rows| {
        ask(&rows);
        Ok(())
    });
    found.unwrap_or_else(|error| panic!("{error}"));
}

/// Lists that come to nearly nothing are drawn, of floats from one end of the exponents to the other.
#[test]
fn floats_that_cancel_are_drawn() {
    for of in cancelling() {
        let size = |at: usize| of[at].abs().log2();
        assert!((0..OPPOSITE).any(|at| size(at) < -100.0) && (0..OPPOSITE).any(|at| size(at) > 100.0));
        for at in 0..OPPOSITE {
            let (one, other) = (of[at], of[at + OPPOSITE]);
            let left = (one + other).abs();
            assert_eq!(left == 0.0, at % 2 == 0, "{one} {other}");
            assert!(left <= one.abs().max(other.abs()) / f64::from(1 << 22) || left < 1e-44, "{one} {other}");
        }
    }
    let drawn = std::cell::Cell::new(0);
    each(200, 10..20, |rows| {
        let mut left = vec![0; OPPOSITE];
        for pick in rows.picks.iter().flatten() {
            left[pick % OPPOSITE] += if pick % VALUES < OPPOSITE { 1 } else { -1 };
        }
        if rows.cancel {
            assert!(left.iter().all(|left| *left == 0), "{:?}", rows.picks);
            drawn.set(drawn.get() + 1);
        }
    });
    assert!(drawn.get() > 20, "{}", drawn.get());
}
