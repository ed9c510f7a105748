pub fn known() {}
