//! One session a statement: the tables it refers to at the pinned position, and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::datasource::ViewTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::prelude::SessionConfig;
use lake::Table;
use model::Calendar;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use url::Url;

use crate::tables::lake_table::{LakeTable, STORE};
use crate::tables::state::StateTable;
use crate::tables::views::{Views, shows_all};
use crate::tables::{CATALOG, PUBLIC, SYSTEM, dictionary};
use crate::{Options, Pinned, Wants, functions};

const MIB: usize = 1 << 20;
/// Footers and page indexes of the lake's files, kept between statements.
const METADATA_CACHE_BYTES: usize = 256 * MIB;
/// Consumers of memory named in the error of a statement that needs too much.
const CONSUMERS_NAMED: usize = 3;

/// Everything sessions share, made once.
#[derive(Debug)]
pub(crate) struct Sessions {
    template: SessionState,
    views: Views,
}

/// The tables a statement needs and what must be pinned for them.
#[derive(Debug)]
pub(crate) struct Needs {
    tables: BTreeSet<(String, String)>,
    all: bool,
    pub(crate) wants: Wants,
}

impl Sessions {
    pub(crate) fn new(options: &Options, calendar: Calendar, views: Views) -> Result<Sessions> {
        let calendar = Arc::new(calendar);
        let template = SessionStateBuilder::new()
            .with_config(config(options, &calendar))
            .with_runtime_env(runtime(options)?)
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(functions::scalar(&calendar))
            .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
            .with_aggregate_functions(functions::aggregate(&calendar))
            .with_window_functions(SessionStateDefaults::default_window_functions())
            .with_table_functions(functions::table())
            .build();
        Ok(Sessions { template, views })
    }

    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    /// What a statement that refers to these tables needs.
    pub(crate) fn needs(&self, mut tables: BTreeSet<(String, String)>) -> Needs {
        let all = tables.iter().any(|(schema, table)| shows_all(schema, table));
        self.views.close(&mut tables);
        let wants = StateTable::ALL
            .into_iter()
            .filter(|table| contains(&tables, table.place()))
            .fold(Wants::default(), |wants, table| wants.or(table.wants()));
        Needs { tables, all, wants }
    }

    /// The session of one statement.
    pub(crate) async fn open(&self, needs: &Needs, pinned: &Pinned) -> Result<SessionState> {
        let public = Arc::new(MemorySchemaProvider::new());
        let system = Arc::new(MemorySchemaProvider::new());
        let needed = |place: (&str, &str)| needs.all || contains(&needs.tables, place);
        for table in Table::ALL.into_iter().filter(|table| needed((PUBLIC, table.name()))) {
            let provider = LakeTable::new(pinned.lake.table(table).clone())?;
            public.register_table(table.name().to_owned(), Arc::new(provider))?;
        }
        for table in StateTable::ALL.into_iter().filter(|table| needed(table.place())) {
            let (schema, name) = table.place();
            let provider = in_memory(table.rows(pinned)?)?;
            (if schema == PUBLIC { &public } else { &system }).register_table(name.to_owned(), provider)?;
        }
        let mut state = self.state(&public, &system, pinned)?;
        for view in self.views.all().filter(|view| needed((PUBLIC, view.name))) {
            let plan = state.statement_to_plan(view.statement.clone()).await?;
            let provider = ViewTable::new(plan, Some(view.text.to_owned()));
            public.register_table(view.name.to_owned(), Arc::new(provider))?;
        }
        if needs.all {
            self.add_dictionary(&public, &system).await?;
        }
        state.execution_props_mut().config_options = Some(Arc::clone(state.config_options()));
        Ok(state)
    }

    fn state(
        &self,
        public: &Arc<MemorySchemaProvider>,
        system: &Arc<MemorySchemaProvider>,
        pinned: &Pinned,
    ) -> Result<SessionState> {
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(PUBLIC, Arc::clone(public) as Arc<dyn SchemaProvider>)?;
        catalog.register_schema(SYSTEM, Arc::clone(system) as Arc<dyn SchemaProvider>)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = self.template.clone();
        state.register_catalog_list(Arc::new(catalogs));
        let since_1970 = Duration::from_micros(u64::try_from(pinned.taken_at.0).unwrap_or(0));
        state.execution_props_mut().query_execution_start_time = Some((UNIX_EPOCH + since_1970).into());
        Ok(state)
    }

    async fn add_dictionary(
        &self,
        public: &MemorySchemaProvider,
        system: &MemorySchemaProvider,
    ) -> Result<()> {
        let mut schemas: HashMap<&str, SchemaRef> = HashMap::new();
        for view in self.views.all() {
            if let Some(table) = public.table(view.name).await? {
                schemas.insert(view.name, table.schema());
            }
        }
        let entries = dictionary::entries(&self.views, |name| schemas.get(name).cloned());
        system.register_table("tables".to_owned(), in_memory(dictionary::tables(&entries)?)?)?;
        system.register_table("columns".to_owned(), in_memory(dictionary::columns(&entries)?)?)?;
        Ok(())
    }
}

fn contains(tables: &BTreeSet<(String, String)>, place: (&str, &str)) -> bool {
    tables.iter().any(|(schema, table)| (schema.as_str(), table.as_str()) == place)
}

fn in_memory(rows: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

fn config(options: &Options, calendar: &Calendar) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(options.parallelism.max(1));
    let execution = &mut config.options_mut().execution;
    execution.time_zone = Some(calendar.zone_name().to_owned());
    execution.enable_recursive_ctes = false;
    execution.parquet.pushdown_filters = true;
    execution.parquet.reorder_filters = true;
    config
}

fn runtime(options: &Options) -> Result<Arc<RuntimeEnv>> {
    let Some(consumers) = std::num::NonZeroUsize::new(CONSUMERS_NAMED) else {
        return Err(DataFusionError::Internal("no consumer is named".to_owned()));
    };
    let disk = match &options.spill_dir {
        Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
        None => DiskManagerMode::Disabled,
    };
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(
            FairSpillPool::new(options.memory_bytes),
            consumers,
        )))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(disk).with_max_temp_directory_size(options.spill_bytes),
        )
        .with_cache_manager(CacheManagerConfig::default().with_metadata_cache_limit(METADATA_CACHE_BYTES))
        .with_object_store_registry(Arc::new(LakeFiles(Arc::new(LocalFileSystem::new()))))
        .build_arc()
}

/// Knows the store of the lake's files and no other, so that no address in a statement leads anywhere.
#[derive(Debug)]
struct LakeFiles(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for LakeFiles {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match url.as_str().starts_with(STORE) {
            true => Ok(Arc::clone(&self.0)),
            false => Err(DataFusionError::Plan("statements read no files".to_owned())),
        }
    }
}
