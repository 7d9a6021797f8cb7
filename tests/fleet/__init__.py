"""lochws.fleet: fleets on Dask."""
