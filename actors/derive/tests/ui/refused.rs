use steadfast_derive::SchemaEnum;

#[derive(SchemaEnum)]
enum DuplicateLabel {
    Paid,
    #[schema_enum(rename = "Paid")]
    Settled,
}

#[derive(SchemaEnum)]
#[schema_enum(rename_all = "snake_case")]
enum DuplicateAlias {
    Cancelled,
    #[schema_enum(alias = "cancelled")]
    Stopped,
}

#[derive(SchemaEnum)]
#[schema_enum(native = "status")]
enum LongLabel {
    Short,
    #[schema_enum(rename = "a label of sixty-four bytes, which is one more than there can be")]
    Long,
}

#[derive(SchemaEnum)]
#[schema_enum(repr = "int2")]
enum Numbers {
    Written = 1,
    Counted,
    Large = 32768,
    Computed = 2 + 2,
}

#[derive(SchemaEnum)]
enum Fields {
    Unit,
    Tuple(u8),
    Struct { field: u8 },
}

#[derive(SchemaEnum)]
enum Empty {}

#[derive(SchemaEnum)]
enum OnlyUnknown {
    #[schema_enum(unknown)]
    Other(String),
}

#[derive(SchemaEnum)]
enum TwoUnknowns {
    Known,
    #[schema_enum(unknown)]
    Other(String),
    #[schema_enum(unknown)]
    Another(String),
}

#[derive(SchemaEnum)]
enum BareUnknown {
    Known,
    #[schema_enum(unknown)]
    Other,
}

#[derive(SchemaEnum)]
#[schema_enum(tabel = "orders")]
enum UnknownAttribute {
    Known,
}

#[derive(SchemaEnum)]
enum UnknownAttributeOfVariant {
    #[schema_enum(label = "known")]
    Known,
}

#[derive(SchemaEnum)]
#[schema_enum(table = "orders")]
enum NoColumn {
    Known,
}

#[derive(SchemaEnum)]
#[schema_enum(bind(table = "orders", column = "status"))]
#[schema_enum(bind(table = "orders", column = "status", nullable))]
enum BoundTwice {
    Known,
}

#[derive(SchemaEnum)]
#[schema_enum(rename_all = "snake-case")]
enum UnknownStyle {
    Known,
}

#[derive(SchemaEnum)]
enum Nul {
    #[schema_enum(rename = "a\0b")]
    Known,
}

#[derive(SchemaEnum)]
enum Generic<T> {
    Known(T),
}

#[derive(SchemaEnum)]
struct NoEnum;

fn main() {}
